//! fork: the child has one thread, and memory as it was between two transactions of the others.

use crate::domain::{self, Domain};
use crate::signal::{self, Hold};
use crate::thread::{self, Thread};
use crate::{access, entry, fatal, host};
use std::cell::{Cell, RefCell};
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
    /// The thread's first transaction is the fork's own.
    static FIRST: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread's first transaction begins, and is only there to keep others out. A process that
/// has the runtime because a library wants it may run no others, and its addresses then do not matter.
pub fn begins() -> bool {
    FIRST.get()
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

unsafe extern "C" fn prepare() {
    // SAFETY: the thread's own state.
    FIRST.set(unsafe { !(*Thread::get()).participates });
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

/// Ends what `prepare` began.
fn end() {
    entry::ame_commit();
    if FIRST.take() {
        // SAFETY: the thread's own state, used by no other frame.
        access::withdraw(unsafe { &mut *Thread::current() });
    }
}

unsafe extern "C" fn parent() {
    LOCKS.with(|slot| slot.borrow_mut().take());
    end();
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
    end();
}
