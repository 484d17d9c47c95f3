//! What another thread of the process waits for, as the kernel tells (`/proc/self/task/N/syscall`): where an
//! interpreter detaches a thread from itself, that is the difference between a lock of its own and a system call.

use std::fs;

/// As far above the stack pointer a semaphore of the waiting function itself may be: those of CPython's parking
/// lot are some 200 bytes away.
const NEAR: u64 = 4096;

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Wait {
    /// It runs, or is about to.
    None,
    /// For a futex on its own stack: for its turn, in a list of waiters.
    Turn,
    /// In any other system call.
    Call,
    /// The kernel does not tell.
    Unknown,
}

pub fn of_thread(id: u32) -> Wait {
    fs::read_to_string(format!("/proc/self/task/{id}/syscall"))
        .map_or(Wait::Unknown, |text| parse(&text))
}

/// `running`, or number, six arguments, stack pointer, program counter; the number is -1 outside of calls.
fn parse(text: &str) -> Wait {
    let mut words = text.split_ascii_whitespace();
    let number = match words.next() {
        Some("running") => return Wait::None,
        Some(word) => word.parse::<i64>(),
        None => return Wait::Unknown,
    };
    let mut address = |nth| {
        let word: &str = words.nth(nth)?;
        u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
    };
    match (number, address(0), address(5)) {
        (Ok(..=-1), ..) => Wait::None,
        (Ok(libc::SYS_futex), Some(futex), Some(stack)) if futex.wrapping_sub(stack) < NEAR => {
            Wait::Turn
        }
        (Ok(_), Some(_), Some(_)) => Wait::Call,
        _ => Wait::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    fn thread_id() -> u32 {
        // SAFETY: no arguments.
        unsafe { libc::gettid() as u32 }
    }

    /// What a thread that does so is found to do, in the end.
    fn found(expected: Wait, work: impl FnOnce() + Send + 'static) -> bool {
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            send.send(thread_id()).unwrap();
            work();
        });
        let id = receive.recv().unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            if of_thread(id) == expected {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    fn wait_on(word: *const i32) {
        // SAFETY: the word lives as long as the thread waits.
        unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, 0, 0) };
    }

    #[test]
    fn waits_are_told_apart() {
        static ELSEWHERE: AtomicI32 = AtomicI32::new(0);
        static GO_ON: AtomicU32 = AtomicU32::new(0);
        assert!(found(Wait::Turn, || {
            let here = AtomicI32::new(0);
            wait_on(here.as_ptr());
        }));
        assert!(found(Wait::Call, || wait_on(ELSEWHERE.as_ptr())));
        assert!(found(Wait::Call, || std::thread::sleep(
            Duration::from_secs(6)
        )));
        assert!(found(Wait::None, || {
            while GO_ON.load(Ordering::Relaxed) == 0 {
                std::hint::spin_loop();
            }
        }));
        GO_ON.store(1, Ordering::Relaxed);
        assert_eq!(of_thread(u32::MAX), Wait::Unknown);
    }

    #[test]
    fn lines_of_the_kernel() {
        assert_eq!(parse("running\n"), Wait::None);
        assert_eq!(parse("-1 0x7ffd00001000 0x55d000000000\n"), Wait::None);
        let futex = |word, stack| {
            parse(&format!(
                "202 {word} 0x189 0x0 0x0 0x0 0xffffffff {stack} 0x7f16\n"
            ))
        };
        assert_eq!(futex("0x7f0000001010", "0x7f0000001000"), Wait::Turn);
        assert_eq!(futex("0x7f0000002000", "0x7f0000001000"), Wait::Call);
        assert_eq!(futex("0x7f0000000ff0", "0x7f0000001000"), Wait::Call);
        assert_eq!(
            parse("230 0x1 0x1 0x7f10 0x0 0x0 0x0 0x7f00 0x7f45\n"),
            Wait::Call
        );
        assert_eq!(parse(""), Wait::Unknown);
        assert_eq!(parse("0 0x1"), Wait::Unknown);
    }
}
