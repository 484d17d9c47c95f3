//! The shared mode of a domain's lock: transactions are in the domain together, and nobody holds it.
//!
//! A thread that joins says so in a word of its own and then looks at the lock; who takes the lock looks at
//! these words afterwards, and waits until nobody is in there. Each has a full fence between the two, so
//! whoever comes second sees the other (as in Dekker's algorithm). To join writes to no line that others write.

use crate::handoff::Lock;
use crate::primitive::{fence, AtomicU32, Ordering};

/// Whether the thread with this word is in the domain now: not if somebody holds that, or is about to.
#[inline(always)]
pub fn join(member: &AtomicU32, domain: u32, lock: &Lock) -> bool {
    member.store(domain, Ordering::Relaxed);
    // Pairs with the fence in `close`.
    fence(Ordering::SeqCst);
    if lock.is_free() {
        return true;
    }
    leave(member);
    false
}

/// What the thread has written there, the next holder sees.
#[inline(always)]
pub fn leave(member: &AtomicU32) {
    member.store(0, Ordering::Release);
}

/// After taking the lock, before [`is_empty`].
#[inline(always)]
pub fn close() {
    // Pairs with the fence in `join`.
    fence(Ordering::SeqCst);
}

/// By who has the lock: whether none of these is in the domain. Nobody joins any more.
#[inline(always)]
pub fn is_empty<'a>(mut members: impl Iterator<Item = &'a AtomicU32>, domain: u32) -> bool {
    members.all(|member| member.load(Ordering::Acquire) != domain)
}
