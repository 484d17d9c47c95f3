//! Taking locks in transactions.
//!
//! **Two kinds of holders.** Another transaction that holds the lock must take part in wound-wait:
//! it may wait for a granule of ours. So every lock has a *shadow*: a granule of a table here,
//! acquired like any granule before the lock itself is tried, for reading by shared holders. Who
//! has the shadow finds the lock free, unless code outside transactions holds it. (A transaction
//! that commits with the lock held leaves it to its thread: code outside.)
//!
//! **Waiting for code outside.** That code may be about to begin a transaction that needs what we
//! hold. So we wait briefly, and then roll back, which gives everything up, sleep a little, and
//! start again. A transaction that cannot be rolled back waits in the C library, as it would with
//! the one big lock held; a program that was right with that cannot deadlock here.
//!
//! **Timeouts** would start again with each rollback: when the lock is not free at once, the
//! transaction becomes inevitable and waits in the C library.
//!
//! **Semaphores** have shared holders: two transactions can each take one. One that becomes
//! inevitable acquires the shadow for writing, so that no transaction keeps a unit from it.
//!
//! **Memory.** The granules of the lock are acquired for reading: whoever initialises or frees it
//! conflicts with us. A lock in memory that is the transaction's own (allocated or initialised by
//! it) is known to nobody else; it is used directly and vanishes with the transaction.
//!
//! Known limit: undo works on granules. A transaction that is rolled back after it wrote next to a
//! lock, in the same 16 bytes, without holding it, undoes what code outside has done to the lock
//! meanwhile. The same holds for locks on the stack of a thread in a transaction. Locks that both
//! sides use belong at the start of a structure or on the heap.

use super::held::Class;
use super::{defers, transaction};
use crate::access;
use crate::caller::pc;
use crate::heap::granule;
use crate::signal;
use crate::tables;
use crate::thread::Thread;
use crate::transaction::{abort, enter_slow_path, make_inevitable};
use ame_abi::trace::cause;
use ame_abi::GRANULE;
use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::sync::atomic::Ordering;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Mutex,
    Read,
    Write,
    Spin,
    Semaphore,
}

#[derive(Clone, Copy)]
pub enum Patience {
    /// Not at all.
    Try,
    Forever,
    /// Up to an absolute time of a clock.
    Until(libc::clockid_t, *const libc::timespec),
}

extern "C" {
    fn pthread_mutex_clocklock(
        m: *mut libc::pthread_mutex_t,
        clock: libc::clockid_t,
        until: *const libc::timespec,
    ) -> c_int;
    fn pthread_rwlock_clockrdlock(
        m: *mut libc::pthread_rwlock_t,
        clock: libc::clockid_t,
        until: *const libc::timespec,
    ) -> c_int;
    fn pthread_rwlock_clockwrlock(
        m: *mut libc::pthread_rwlock_t,
        clock: libc::clockid_t,
        until: *const libc::timespec,
    ) -> c_int;
    fn sem_clockwait(
        s: *mut libc::sem_t,
        clock: libc::clockid_t,
        until: *const libc::timespec,
    ) -> c_int;
}

impl Kind {
    fn class(self) -> Class {
        match self {
            Kind::Mutex => Class::Mutex,
            Kind::Read | Kind::Write => Class::ReadWrite,
            Kind::Spin => Class::Spin,
            Kind::Semaphore => Class::Semaphore,
        }
    }

    fn shared(self) -> bool {
        matches!(self, Kind::Read | Kind::Semaphore)
    }

    /// The C library's own operation; an error code or 0.
    unsafe fn real(self, lock: usize, patience: Patience) -> c_int {
        use Patience::*;
        // SAFETY: the caller's lock and time.
        unsafe {
            match (self, patience) {
                (Kind::Mutex, Try) => libc::pthread_mutex_trylock(lock as *mut _),
                (Kind::Mutex, Forever) => libc::pthread_mutex_lock(lock as *mut _),
                (Kind::Mutex, Until(c, t)) => pthread_mutex_clocklock(lock as *mut _, c, t),
                (Kind::Read, Try) => libc::pthread_rwlock_tryrdlock(lock as *mut _),
                (Kind::Read, Forever) => libc::pthread_rwlock_rdlock(lock as *mut _),
                (Kind::Read, Until(c, t)) => pthread_rwlock_clockrdlock(lock as *mut _, c, t),
                (Kind::Write, Try) => libc::pthread_rwlock_trywrlock(lock as *mut _),
                (Kind::Write, Forever) => libc::pthread_rwlock_wrlock(lock as *mut _),
                (Kind::Write, Until(c, t)) => pthread_rwlock_clockwrlock(lock as *mut _, c, t),
                (Kind::Spin, Try) => libc::pthread_spin_trylock(lock as *mut _),
                (Kind::Spin, _) => libc::pthread_spin_lock(lock as *mut _),
                (Kind::Semaphore, Try) => code_of(libc::sem_trywait(lock as *mut _)),
                (Kind::Semaphore, Forever) => code_of(libc::sem_wait(lock as *mut _)),
                (Kind::Semaphore, Until(c, t)) => code_of(sem_clockwait(lock as *mut _, c, t)),
            }
        }
    }

    /// Waits for code outside, but not long.
    unsafe fn brief(self, lock: usize) -> c_int {
        if self == Kind::Spin {
            std::thread::yield_now();
            // SAFETY: the caller's lock.
            return unsafe { self.real(lock, Patience::Try) };
        }
        let mut until = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: a local out-parameter, and the caller's lock.
        unsafe {
            libc::clock_gettime(libc::CLOCK_REALTIME, &mut until);
            until.tv_nsec += BRIEF_NS;
            if until.tv_nsec >= 1_000_000_000 {
                until.tv_nsec -= 1_000_000_000;
                until.tv_sec += 1;
            }
            self.real(lock, Patience::Until(libc::CLOCK_REALTIME, &until))
        }
    }
}

/// Code outside that holds a lock for a moment is waited for this long, so many times.
const BRIEF_NS: i64 = 100_000;
const BRIEFLY: u32 = 5;

/// Semaphore functions return -1 and set errno.
fn code_of(result: c_int) -> c_int {
    match result {
        0 => 0,
        _ => super::errno(),
    }
}

fn not_free(code: c_int) -> bool {
    [libc::EBUSY, libc::EAGAIN, libc::ETIMEDOUT, libc::EINTR].contains(&code)
}

#[repr(C, align(16))]
struct Shadow(UnsafeCell<[u64; 2]>);
// SAFETY: never read or written, except by undo, with its lock held; only its address matters.
unsafe impl Sync for Shadow {}

const SHADOWS: usize = 4096;
static SHADOW: [Shadow; SHADOWS] = [const { Shadow(UnsafeCell::new([0; 2])) }; SHADOWS];

fn shadow_of(lock: usize) -> usize {
    // Fibonacci hashing; two locks with one shadow only wait for each other needlessly.
    let hash = (lock as u64 >> 2).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
    SHADOW[hash as usize].0.get() as usize
}

/// Acquires the lock's memory and its shadow. True if the lock belongs to the transaction alone.
unsafe fn reach(thread: &mut Thread, kind: Kind, lock: usize) -> bool {
    let class = kind.class();
    access::read_range(thread, lock, class.size(), pc());
    if is_own(thread, class, lock) {
        return true;
    }
    {
        let _hold = signal::hold();
        access::note_foreign_stack(thread.me, lock);
    }
    let shadow = shadow_of(lock);
    let shared = kind == Kind::Read || (kind == Kind::Semaphore && defers(thread));
    if shared {
        super::scan::touch(thread, shadow);
    } else {
        // SAFETY: the shadow is ours.
        unsafe { access::write_range(thread, shadow, GRANULE, pc()) };
    }
    false
}

/// Whether the transaction has allocated or initialised the lock.
fn is_own(thread: &mut Thread, class: Class, lock: usize) -> bool {
    let own = thread.me.ver + 1;
    let inner = lock.next_multiple_of(GRANULE);
    if inner + GRANULE <= lock + class.size() {
        return *thread.mark(granule(inner)) == own;
    }
    // It shares its granule: written is not enough, it must be fresh.
    let g = granule(lock);
    let locked = tables::lock(g).load(Ordering::Relaxed) == thread.me.slot as u16 + 1;
    *thread.mark(g) == own && !locked
}

/// Takes a lock in a transaction; an error code or 0.
///
/// # Safety
/// `lock` is an object of that kind, and the time of `patience` is private memory.
pub unsafe fn acquire(thread: &mut Thread, kind: Kind, lock: usize, patience: Patience) -> c_int {
    let exclusive = !kind.shared();
    // SAFETY: the caller's promise throughout.
    unsafe {
        if reach(thread, kind, lock) || !defers(thread) {
            return kind.real(lock, patience);
        }
        if thread.effects.held.reacquire(lock, exclusive) {
            return 0;
        }
        // For writing, but held for reading and released at commit: that cannot wait for commit.
        // And an owner's death, or its return code, can be told only once.
        if thread.effects.held.is_pending(lock) || (kind == Kind::Mutex && is_robust(lock)) {
            return irrevocably(thread, kind, lock, patience);
        }
        let mut code = kind.real(lock, Patience::Try);
        match patience {
            Patience::Until(..) if not_free(code) => {
                return irrevocably(thread, kind, lock, patience)
            }
            Patience::Forever => {
                for _ in 0..BRIEFLY {
                    if !not_free(code) {
                        break;
                    }
                    code = kind.brief(lock);
                    if code != 0 {
                        enter_slow_path(thread, pc());
                    }
                }
                if not_free(code) {
                    abort(thread, cause::LOCK, pc());
                }
            }
            _ => {}
        }
        if code == 0 {
            thread.eventful = true;
            thread.effects.held.take(lock, kind.class(), exclusive);
        }
        code
    }
}

unsafe fn irrevocably(thread: &mut Thread, kind: Kind, lock: usize, patience: Patience) -> c_int {
    make_inevitable(thread, pc());
    // SAFETY: the caller's promise. Once more: an inevitable transaction keeps more others away.
    unsafe {
        reach(thread, kind, lock);
        kind.real(lock, patience)
    }
}

/// `PTHREAD_MUTEX_ROBUST_NORMAL_NP` in `__data.__kind` (glibc, sysdeps/nptl/bits/struct_mutex.h).
unsafe fn is_robust(mutex: usize) -> bool {
    // SAFETY: the field of an initialised mutex; constant from then on.
    unsafe { *((mutex + 16) as *const i32) & 16 != 0 }
}

/// Gives a lock back; an error code or 0.
///
/// # Safety
/// `lock` is an object of that class.
pub unsafe fn release(class: Class, lock: usize) -> c_int {
    if let Some(thread) = transaction().filter(|thread| defers(thread)) {
        let known = thread.effects.held.contains(lock);
        if known || !is_own(thread, class, lock) {
            thread.eventful = true;
            thread.effects.held.release(lock, class);
            return 0;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { class.release(lock) }
}

/// Ends the use of a lock. One that the transaction has used is still locked for real: then there is
/// nothing to do, for the C library keeps nothing about its locks outside of them.
///
/// # Safety
/// `lock` is an object of that class.
pub unsafe fn destroy(class: Class, lock: usize, real: impl FnOnce() -> c_int) -> c_int {
    if let Some(thread) = transaction() {
        if thread.effects.held.contains(lock) {
            return 0;
        }
        // SAFETY: the caller's promise.
        unsafe { access::write_range(thread, lock, class.size(), pc()) };
    }
    real()
}

/// A time that a wrapper got from its caller, acquired and copied: in the wrapper's own frame it
/// needs no barriers while it is waited for.
///
/// # Safety
/// `time` is valid.
pub unsafe fn private_time(thread: &mut Thread, time: *const libc::timespec) -> libc::timespec {
    access::read_range(thread, time as usize, size_of::<libc::timespec>(), pc());
    // SAFETY: the caller's promise.
    unsafe { *time }
}
