//! fork: the child has one thread, and memory as it was between two transactions of the others.

use crate::thread::{self, Thread};
use crate::{entry, fatal};
use std::cell::RefCell;
use std::sync::MutexGuard;

thread_local! {
    static REGISTRY: RefCell<Option<MutexGuard<'static, ()>>> = const { RefCell::new(None) };
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
    REGISTRY.with(|slot| *slot.borrow_mut() = Some(thread::registry_lock()));
}

unsafe extern "C" fn parent() {
    REGISTRY.with(|slot| slot.borrow_mut().take());
    entry::ame_commit();
}

unsafe extern "C" fn child() {
    thread::forget_others();
    REGISTRY.with(|slot| slot.borrow_mut().take());
    debug_assert!(!Thread::current().is_null());
    // The child's trace would mix with the parent's.
    crate::trace::forget_in_child();
    entry::ame_commit();
}
