//! The base of %gs: where compiled code finds its thread's control words and mark table.
//!
//! The kernel keeps it per thread, and a new thread has its maker's until it registers. So all threads have one that come
//! from the thread that loaded the runtime. Those that were there before, in a program that loads a library of ours late,
//! are interrupted to get theirs.

use crate::fatal;
use crate::tables::ZERO_MARKS;
use crate::thread::Thread;
use ame_abi::SEGMENT_MARKS;
use libc::{c_int, pid_t};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, mem, ptr};

/// Points %gs of the calling thread to the segment with this mark table.
pub fn set(marks: usize) {
    const ARCH_SET_GS: c_int = 0x1001;
    let base = marks - SEGMENT_MARKS as usize;
    // SAFETY: the base is of no use to anybody else: the C library has only that of %fs.
    let result = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, base) };
    if result != 0 {
        fatal!(
            "the kernel does not set the base of %gs, which compiled code needs: {}",
            std::io::Error::last_os_error()
        );
    }
}

/// A thread that has not registered came to a slow path by the segment of the thread that made it.
#[cold]
pub extern "C" fn leave() {
    set(ZERO_MARKS);
}

/// Ignored by default, so that one that comes too late does no harm.
const SIGNAL: c_int = libc::SIGURG;
/// For a thread that cannot be interrupted where it is.
const PATIENCE: Duration = Duration::from_secs(1);

static ANSWERS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn answer(_: c_int) {
    if Thread::current().is_null() {
        leave();
    }
    ANSWERS.fetch_add(1, Ordering::SeqCst);
}

fn threads() -> HashSet<pid_t> {
    let entries = fs::read_dir("/proc/self/task");
    let names = entries.into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Whether the thread has the signal blocked, or has ended.
fn cannot_answer(thread: pid_t) -> bool {
    let status = fs::read_to_string(format!("/proc/self/task/{thread}/status"));
    let mask = status.ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("SigBlk:"))?;
        u64::from_str_radix(line.trim(), 16).ok()
    });
    mask.is_none_or(|mask| mask >> (SIGNAL - 1) & 1 != 0)
}

/// When the runtime is loaded: gives a segment to the threads that are there already.
pub fn give_to_others() {
    // SAFETY: a plain query.
    let mut done = HashSet::from([unsafe { libc::gettid() }]);
    if threads().is_subset(&done) {
        return;
    }
    // SAFETY: valid actions, and all zero is one.
    let before = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = answer as extern "C" fn(c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        let mut before = mem::zeroed();
        libc::sigaction(SIGNAL, &action, &mut before);
        before
    };
    // A thread that has not been reached may have made another meanwhile.
    loop {
        let new: Vec<pid_t> = threads().difference(&done).copied().collect();
        if new.is_empty() {
            break;
        }
        for thread in new {
            reach(thread);
            done.insert(thread);
        }
    }
    // SAFETY: what it was.
    unsafe { libc::sigaction(SIGNAL, &before, ptr::null_mut()) };
}

fn reach(thread: pid_t) {
    let before = ANSWERS.load(Ordering::SeqCst);
    // SAFETY: to a thread of this process, with a handler in place.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, SIGNAL) };
    let start = Instant::now();
    while sent == 0 && ANSWERS.load(Ordering::SeqCst) == before {
        if cannot_answer(thread) || start.elapsed() > PATIENCE {
            if threads().contains(&thread) {
                eprintln!(
                    "ame: thread {thread} was there before the library that `ame cc` has compiled, and cannot be \
                     interrupted (it blocks SIGURG): if it calls compiled code, it will crash. Load the library earlier"
                );
            }
            return;
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}
