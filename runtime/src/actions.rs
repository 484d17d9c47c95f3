//! What runs when a transaction ends: deferred effects on commit, compensations on abort, and what is
//! published with the transaction.

use std::ffi::c_void;

pub type Callback = unsafe extern "C" fn(*mut c_void);

#[derive(Clone, Copy)]
struct Action {
    run: Callback,
    argument: *mut c_void,
}

#[derive(Default)]
pub struct Actions {
    before_release: Vec<Action>,
    on_commit: Vec<Action>,
    on_abort: Vec<Action>,
}

impl Actions {
    pub fn before_release(&mut self, run: Callback, argument: *mut c_void) {
        self.before_release.push(Action { run, argument });
    }

    pub fn on_commit(&mut self, run: Callback, argument: *mut c_void) {
        self.on_commit.push(Action { run, argument });
    }

    pub fn on_abort(&mut self, run: Callback, argument: *mut c_void) {
        self.on_abort.push(Action { run, argument });
    }

    /// The transaction will commit and still holds everything: runs what waited for that.
    pub fn run_before_release(&mut self) {
        for action in self.before_release.drain(..) {
            invocation(action)();
        }
    }

    /// Takes the commit actions, in order; the abort actions are forgotten.
    pub fn take_committed(&mut self) -> impl Iterator<Item = impl FnOnce()> {
        self.on_abort.clear();
        std::mem::take(&mut self.on_commit)
            .into_iter()
            .map(invocation)
    }

    /// Takes the abort actions, last first; the commit actions are forgotten.
    pub fn take_aborted(&mut self) -> impl Iterator<Item = impl FnOnce()> {
        self.before_release.clear();
        self.on_commit.clear();
        std::mem::take(&mut self.on_abort)
            .into_iter()
            .rev()
            .map(invocation)
    }
}

fn invocation(action: Action) -> impl FnOnce() {
    // SAFETY: whoever registered the action promised that the function may be called with the
    // argument when the transaction ends.
    move || unsafe { (action.run)(action.argument) }
}
