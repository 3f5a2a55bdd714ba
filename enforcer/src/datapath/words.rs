//! An array map in this process's memory, read and written in whole words: the programs see a store at once and never half
//! of it. A word costs nanoseconds so, where a system call costs most of a microsecond.
//!
//! The kernel maps all pages at once and has no way to map one again: to let go of some (`madvise`) is to die of a bus error later.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Error;

pub struct Words {
    start: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the mapping belongs to this value alone and stays until it is dropped; all access is atomic.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// Maps an array whose elements take up `count` words in all.
    pub fn map(map: &'static str, fd: BorrowedFd<'_>, count: usize) -> Result<Self, Error> {
        // SAFETY: a fresh mapping at a place that the kernel chooses; no memory of this process is touched.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                count * size_of::<u64>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Error::Memory {
                map,
                source: io::Error::last_os_error(),
            });
        }
        let start = NonNull::new(start.cast());
        start.map(|start| Self { start, count }).ok_or(Error::Memory {
            map,
            source: io::ErrorKind::AddrNotAvailable.into(),
        })
    }

    fn all(&self) -> &[AtomicU64] {
        // SAFETY: `map` made a mapping of `count` words, aligned to a page, that lives as long as this value.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }

    pub fn load(&self, index: usize) -> u64 {
        self.all()
            .get(index)
            .map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Changes a word, whatever the programs do to it meanwhile.
    pub fn change(&self, index: usize, change: impl Fn(u64) -> u64) {
        if let Some(word) = self.all().get(index) {
            let changed = |value| Some(change(value));
            // It only fails if nothing is to be changed.
            word.fetch_update(Ordering::AcqRel, Ordering::Acquire, changed)
                .unwrap_or_default();
        }
    }

    /// Stores a value where there is 0; whether it is there now.
    pub fn claim(&self, index: usize, value: u64) -> bool {
        let claim = |word: &AtomicU64| {
            let before = word.compare_exchange(0, value, Ordering::AcqRel, Ordering::Acquire);
            before.is_ok() || word.load(Ordering::Acquire) == value
        };
        self.all().get(index).is_some_and(claim)
    }

    pub fn store(&self, index: usize, value: u64) {
        if let Some(word) = self.all().get(index) {
            word.store(value, Ordering::Release);
        }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: unmaps what `map` mapped; no borrow of it can outlive `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * size_of::<u64>()) };
    }
}
