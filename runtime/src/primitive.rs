//! The only door to atomics, fences and waiting. Under `--cfg loom` the model checker's versions
//! stand in, so that what is checked is the protocol that ships.

#[cfg(loom)]
pub use modelled::*;
#[cfg(not(loom))]
pub use std::sync::atomic::{fence, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// The cheap half of an asymmetric fence: orders a store before a later load only against a thread
/// that runs [`heavy_fence`] between its own store and load. Costs no instruction.
#[inline(always)]
pub fn light_fence() {
    #[cfg(not(loom))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    // loom has no asymmetric fences: both halves are full ones there.
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// The dear half: a full fence on every running thread of the process (`membarrier(2)`).
pub fn heavy_fence() {
    #[cfg(not(loom))]
    {
        fence(Ordering::SeqCst);
        // SAFETY: no memory is passed. The process registered for the command at start-up (`tables::init`).
        let failed = unsafe {
            libc::syscall(
                libc::SYS_membarrier,
                libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED,
                0,
                0,
            )
        };
        if failed != 0 {
            crate::fatal!(
                "membarrier(2) failed: {}; it must stay allowed to processes that use Ame",
                std::io::Error::last_os_error()
            );
        }
    }
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

#[cfg(loom)]
mod modelled {
    pub use loom::sync::atomic::{fence, Ordering};

    /// loom differs from x86-64 in two ways that would make the models fail. It takes sequentially
    /// consistent accesses for acquire and release: here they are followed by the fence that the
    /// locked instruction is. And it leaves the order of a store and a concurrent read-modify-write
    /// of one word open, so that the latter may miss the former for ever: here stores exchange.
    macro_rules! atomic {
        ($name:ident, $value:ty) => {
            #[derive(Debug)]
            pub struct $name(loom::sync::atomic::$name);

            impl $name {
                pub fn new(value: $value) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }
                pub fn load(&self, order: Ordering) -> $value {
                    self.0.load(order)
                }
                pub fn store(&self, value: $value, order: Ordering) {
                    self.0.swap(value, order);
                    full_fence(order);
                }
                pub fn swap(&self, value: $value, order: Ordering) -> $value {
                    let old = self.0.swap(value, order);
                    full_fence(order);
                    old
                }
                pub fn compare_exchange(
                    &self,
                    from: $value,
                    to: $value,
                    order: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    let result = self.0.compare_exchange(from, to, order, failure);
                    full_fence(order);
                    result
                }
                pub fn fetch_add(&self, n: $value, order: Ordering) -> $value {
                    let old = self.0.fetch_add(n, order);
                    full_fence(order);
                    old
                }
                pub fn fetch_sub(&self, n: $value, order: Ordering) -> $value {
                    let old = self.0.fetch_sub(n, order);
                    full_fence(order);
                    old
                }
            }
        };
    }

    fn full_fence(order: Ordering) {
        if order == Ordering::SeqCst {
            fence(Ordering::SeqCst);
        }
    }

    atomic!(AtomicU16, u16);
    atomic!(AtomicU32, u32);
    atomic!(AtomicU64, u64);
}

/// Sleeps until `word` is no longer `value`, somebody wakes it, or `timeout_ns` passes.
pub fn futex_wait(word: &AtomicU32, value: u32, timeout_ns: i64) {
    #[cfg(not(loom))]
    {
        let timeout = libc::timespec {
            tv_sec: timeout_ns / 1_000_000_000,
            tv_nsec: timeout_ns % 1_000_000_000,
        };
        // SAFETY: `word` and `timeout` outlive the call; errors (EAGAIN, EINTR, ETIMEDOUT) all
        // mean "look again", which every caller does. They are not the program's: a barrier that waits
        // leaves its errno alone.
        unsafe {
            let errno = libc::__errno_location();
            let before = *errno;
            libc::syscall(
                libc::SYS_futex,
                word as *const AtomicU32,
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                value,
                &timeout as *const libc::timespec,
            );
            *errno = before;
        };
    }
    #[cfg(loom)]
    {
        let _ = (word, value, timeout_ns);
        loom::thread::yield_now();
    }
}

/// Wakes every sleeper on `word`.
pub fn futex_wake(word: &AtomicU32) {
    wake(word, i32::MAX);
}

/// Wakes one of them.
pub fn futex_wake_one(word: &AtomicU32) {
    wake(word, 1);
}

fn wake(word: &AtomicU32, sleepers: i32) {
    #[cfg(not(loom))]
    // SAFETY: the kernel only uses the address as a key.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word as *const AtomicU32,
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            sleepers,
        )
    };
    #[cfg(loom)]
    let _ = (word, sleepers);
}

/// One step of a spin loop.
#[inline(always)]
pub fn spin() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// Lets another thread run that has no processor.
#[cold]
pub fn give_way_to_owner() {
    #[cfg(not(loom))]
    std::thread::yield_now();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// Processors that the process may use.
#[cfg(not(loom))]
pub fn processors() -> u32 {
    use std::sync::OnceLock;
    static COUNT: OnceLock<u32> = OnceLock::new();
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u32))
}
