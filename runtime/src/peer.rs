//! What one thread shows the others.

use crate::primitive::*;

/// No transaction.
pub const IDLE: u32 = 0;
/// In a transaction that can be rolled back.
pub const ACTIVE: u32 = 1;
/// Wounded: will roll back at its next slow path or poll, or commit if it gets there first.
pub const DOOMED: u32 = 2;
/// In a transaction that cannot be rolled back.
pub const INEVITABLE: u32 = 3;
/// No transaction, but what earlier ones have acquired is kept (`lease`).
pub const KEPT: u32 = 4;
/// The same, and the owner is about to begin another one.
pub const HELD: u32 = 5;
/// The same, and another thread is taking it away.
pub const REVOKED: u32 = 6;

/// Age of an inevitable transaction: older than every other.
pub const OLDEST: u64 = 0;
/// Age of a transaction that only waits for somebody to want what it has read (`ame_retry`).
pub const YOUNGEST: u64 = u64::MAX;

/// States of `state`, a word of `version << 16 | status`:
///
/// | from | to | by | when |
/// | --- | --- | --- | --- |
/// | (v, IDLE) | (v, ACTIVE) | owner, store | begin |
/// | (v, ACTIVE) | (v, DOOMED) | others, CAS | wound |
/// | (v, ACTIVE) | (v, INEVITABLE) | owner, CAS | inevitable |
/// | (v, any) | (v + 2, IDLE) | owner, store | commit, abort |
/// | (v, ACTIVE) | (v, IDLE) | owner, store | begin that met a closed gate |
/// | (v, ACTIVE) | (v, KEPT) | owner, store | commit of a thread that keeps what it has (`lease`) |
/// | (v, KEPT) | (v, HELD) | owner, CAS | before the begin of such a thread |
/// | (v, HELD) | (v, ACTIVE) | owner, store | begin |
/// | (v, ACTIVE) | (v, KEPT) | owner, store | begin that met a closed gate |
/// | (v, KEPT) | (v, REVOKED) | others, CAS | somebody wants something of it |
/// | (v, REVOKED) | (v, IDLE) | the same, store | its locks have been given back |
///
/// The version is that of the first transaction whose marks count, `Me::since`. A mark m of this thread is live
/// while `m >= version` and the status is not IDLE.
///
/// The words that every begin and commit of the owner write come first. Those that every writer looks
/// at lie apart: on a line of their own they stay in all caches.
#[repr(C, align(128))]
pub struct Peer {
    pub state: AtomicU32,
    /// How many threads wait for this one to let go of something.
    pub waiters: AtomicU32,
    /// Order of transactions for wound-wait: smaller is older. Unique (the slot is in it).
    pub age: AtomicU64,
    /// Slot + 1 of the thread that this one waits for, or 0.
    pub waiting_for: AtomicU32,
    /// Futex word that this thread sleeps on.
    pub park: AtomicU32,
    /// Who doomed this thread's latest transaction: slot + 1, and the version of its own then,
    /// as `version << 16 | slot + 1`.
    pub wounded_by: AtomicU32,
    /// 1 while this thread waits for another to let go of something, awake or asleep.
    pub stuck: AtomicU32,
    /// Number of the domain in which this thread is as a transaction (`sharing`), or 0.
    pub shared: AtomicU32,
    /// Time stamp of the begin of this thread's latest transaction, where the time of transactions is measured. A hint.
    #[cfg(not(loom))]
    pub since: AtomicU64,
    /// Somebody waits for something that this thread may only keep. Written by others, when they wait.
    pub wanted: AtomicU32,
    apart: [u64; 9],
    /// 1 while this thread marks reads without a fence of its own.
    pub unfenced: AtomicU32,
    /// How often others asked this thread for a fence.
    pub fence_request: AtomicU32,
    /// Up to which request it has run one. Never ahead of `fence_request`.
    pub fence_answer: AtomicU32,
    /// How often this slot has begun again with version 2. Ticks before the first such transaction.
    pub wraps: AtomicU32,
    /// 1 while this thread waits for its turn (`turns`).
    pub wants_turn: AtomicU32,
    pub leases: crate::lease::Leases,
    #[cfg(not(loom))]
    pub os: crate::foreign::Foreign,
}

impl Peer {
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Peer {
            state: AtomicU32::new(0),
            waiters: AtomicU32::new(0),
            age: AtomicU64::new(0),
            waiting_for: AtomicU32::new(0),
            park: AtomicU32::new(0),
            wounded_by: AtomicU32::new(0),
            stuck: AtomicU32::new(0),
            shared: AtomicU32::new(0),
            since: AtomicU64::new(0),
            wanted: AtomicU32::new(0),
            apart: [0; 9],
            unfenced: AtomicU32::new(0),
            fence_request: AtomicU32::new(0),
            fence_answer: AtomicU32::new(0),
            wraps: AtomicU32::new(0),
            wants_turn: AtomicU32::new(0),
            leases: crate::lease::Leases::new(),
            os: crate::foreign::Foreign::new(),
        }
    }

    #[cfg(loom)]
    pub fn new() -> Self {
        Peer {
            state: AtomicU32::new(0),
            waiters: AtomicU32::new(0),
            age: AtomicU64::new(0),
            waiting_for: AtomicU32::new(0),
            park: AtomicU32::new(0),
            wounded_by: AtomicU32::new(0),
            stuck: AtomicU32::new(0),
            shared: AtomicU32::new(0),
            wanted: AtomicU32::new(0),
            apart: [0; 9],
            unfenced: AtomicU32::new(0),
            fence_request: AtomicU32::new(0),
            fence_answer: AtomicU32::new(0),
            wraps: AtomicU32::new(0),
            wants_turn: AtomicU32::new(0),
            leases: crate::lease::Leases::new(),
        }
    }
}

#[inline(always)]
pub fn status(state: u32) -> u32 {
    state & 0xffff
}

#[inline(always)]
pub fn version(state: u32) -> u16 {
    (state >> 16) as u16
}

#[inline(always)]
pub fn state_of(version: u16, status: u32) -> u32 {
    (version as u32) << 16 | status
}

/// Whether the thread is in no transaction.
#[inline(always)]
pub fn is_at_rest(state: u32) -> bool {
    matches!(status(state), IDLE | KEPT | REVOKED)
}
