//! The C library for instrumented code: what the annotation set `libc.toml` replaces calls with.
//!
//! Every function here keeps the contract of the one it replaces, in every mode:
//!
//! - Outside transactions, and in exclusive ones, it goes straight to the C library.
//! - In a transaction it acquires the memory that its arguments name (`scan`), never more than the
//!   C library would touch, rounded up to granules: a granule never crosses a page.
//! - Effects outside memory wait until commit (`effects`), or are taken back by rollback (`held`).
//!
//! A barrier may roll back, and then the frames of the wrapper are gone without destructors. So
//! nothing that owns memory is alive across one: barriers first, buffers after.
//!
//! | file | functions |
//! | --- | --- |
//! | `strings`, `search`, `numbers` | `str*`, `ato*` |
//! | `output`, `format` and `stdio.c` | streams, `write`, `close`; `printf` and its relatives |
//! | `mutex`, `rwlock`, `semaphore`, `condition` | locks, on `lock` and `held` |
//! | `c11` | `mtx_*`, `cnd_*`, `thrd_create` |
//! | `sort` | `qsort`, `bsearch` |
//! | `signals` | `sigaction`, `signal` |
//! | `operators` | C++: `new`, `delete` |
//! | `threads` | `pthread_create`, `fork` |
//!
//! The memory functions (`memcpy`, `memcmp`, ...) need no wrapper: their ranges are known before
//! the call, so that the pass emits range barriers and calls them directly.

mod c11;
mod condition;
mod directory;
pub mod effects;
mod format;
pub mod held;
mod lock;
mod mutex;
mod numbers;
mod operators;
mod output;
mod rwlock;
mod scan;
mod search;
mod semaphore;
mod signals;
mod sort;
mod strings;
mod threads;

pub use directory::{is_wrapper, names};

use crate::entry;
use crate::thread::{Mode, Thread};

/// The calling thread's state if its accesses need barriers; notices a wound first.
#[inline(always)]
fn transaction() -> Option<&'static mut Thread> {
    entry::speculative()
}

/// Whether effects of the transaction must wait for its commit.
#[inline(always)]
fn defers(thread: &Thread) -> bool {
    thread.mode == Mode::Revocable
}

fn set_errno(code: i32) {
    // SAFETY: errno is the thread's own.
    unsafe { *libc::__errno_location() = code };
}

fn errno() -> i32 {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() }
}
