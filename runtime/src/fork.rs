//! fork: the child has one thread, and memory as it was between two transactions of the others.

use crate::domain::{self, Domain};
use crate::signal::{self, Hold};
use crate::thread::{self, Thread};
use crate::{entry, fatal, host};
use std::cell::RefCell;
use std::sync::MutexGuard;

/// What must be whole in the child: the registry of threads, the table of signal handlers, and what
/// reports have added up. No handler may want any of them meanwhile.
struct Locks {
    _registry: MutexGuard<'static, ()>,
    _actions: MutexGuard<'static, ()>,
    _reports: host::Locks,
    domains: MutexGuard<'static, Vec<&'static Domain>>,
    _hold: Hold,
}

thread_local! {
    static LOCKS: RefCell<Option<Locks>> = const { RefCell::new(None) };
}

/// Makes the process fork only while no transaction runs.
pub fn init() {
    // SAFETY: three functions with the right signature.
    let err = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    if err != 0 {
        fatal!(
            "pthread_atfork failed: {}",
            std::io::Error::from_raw_os_error(err)
        );
    }
}

/// Whether `prepare` began a transaction of its own: the registered threads' depth is not enough,
/// because the caller may be in one.
unsafe extern "C" fn prepare() {
    // SAFETY: an ordinary nested transaction, ended in `parent` or `child` on the same thread, from
    // the same frame of fork().
    unsafe {
        entry::ame_begin();
        entry::ame_exclusive();
    }
    let hold = signal::hold();
    let locks = Locks {
        // In this order: `trace::close` has the registry when it writes.
        _registry: thread::registry_lock(),
        _actions: signal::changes(),
        _reports: host::locks(),
        domains: domain::all(),
        _hold: hold,
    };
    LOCKS.with(|slot| *slot.borrow_mut() = Some(locks));
}

unsafe extern "C" fn parent() {
    LOCKS.with(|slot| slot.borrow_mut().take());
    entry::ame_commit();
}

unsafe extern "C" fn child() {
    thread::forget_others();
    signal::start_child();
    if let Some(locks) = LOCKS.with(|slot| slot.borrow_mut().take()) {
        locks.domains.iter().for_each(|d| d.forget_others());
    }
    debug_assert!(!Thread::current().is_null());
    // SAFETY: the thread's own state, and a plain query.
    unsafe { (*Thread::current()).os_id = libc::gettid() };
    // The child's trace would mix with the parent's.
    crate::trace::forget_in_child();
    entry::ame_commit();
}
