//! Functions that a program gives the runtime to call.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A cell for one function pointer type `F`, or nothing.
pub struct Hook<F> {
    pointer: AtomicPtr<()>,
    function: PhantomData<F>,
}

impl<F: Copy> Hook<F> {
    pub const fn new() -> Self {
        const { assert!(size_of::<F>() == size_of::<*mut ()>()) };
        Hook {
            pointer: AtomicPtr::new(std::ptr::null_mut()),
            function: PhantomData,
        }
    }

    pub fn set(&self, function: Option<F>) {
        let pointer = match function {
            // SAFETY: only function pointers are put in here, and they have a pointer's size.
            Some(f) => unsafe { std::mem::transmute_copy::<F, *mut ()>(&f) },
            None => std::ptr::null_mut(),
        };
        self.pointer.store(pointer, Ordering::Release);
    }

    #[inline(always)]
    pub fn get(&self) -> Option<F> {
        let pointer = self.pointer.load(Ordering::Acquire);
        // SAFETY: what is not null came from an `F` in `set`.
        (!pointer.is_null()).then(|| unsafe { std::mem::transmute_copy::<*mut (), F>(&pointer) })
    }
}
