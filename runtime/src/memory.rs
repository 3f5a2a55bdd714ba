//! Memory that is free goes back to the node.
//!
//! A list of all pods, and the rules made of them at first, pass through ten times the memory that is kept of them. glibc keeps what was
//! freed for later, each thread's in an arena of its own; a DaemonSet has that on every node, for nothing.

use std::time::Duration;

/// How often. It costs a millisecond or two of a heap of tens of MiB.
const EVERY: Duration = Duration::from_secs(30);

/// How many arenas there may be.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;

/// Gives free memory back now and then, in a task of its own that ends with the runtime. To be called before there are many threads.
pub fn keep_small() {
    limit();
    tokio::spawn(async {
        loop {
            tokio::time::sleep(EVERY).await;
            give_back();
        }
    });
}

/// Has the allocator share its free memory among threads.
#[cfg(target_env = "gnu")]
fn limit() {
    // SAFETY: it sets a number of the allocator's, under its own lock.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
}

/// Gives free memory back to the kernel.
#[cfg(target_env = "gnu")]
pub fn give_back() {
    // SAFETY: it touches free memory only, under the allocator's own locks.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn limit() {}

/// Other allocators do so by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
