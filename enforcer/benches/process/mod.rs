//! What this process takes of the machine.

use ringfence_bench::memory;

/// The time that the processor spent on this thread, in milliseconds.
pub fn now() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: it writes the time to where it is told to.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "there is such a clock");
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// Resident memory, in MiB.
pub fn resident() -> f64 {
    memory(std::process::id(), "VmRSS").unwrap()
}

/// The most that there was.
pub fn peak() -> f64 {
    memory(std::process::id(), "VmHWM").unwrap()
}
