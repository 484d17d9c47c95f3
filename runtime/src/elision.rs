//! Elision: an entry to a domain runs as a transaction instead of holding the domain.
//!
//! The thread joins the domain in shared mode ([`crate::sharing`]), begins a transaction, and runs code with
//! barriers. Where that comes to what cannot be undone, the thread becomes the holder of the domain in the
//! middle: it takes the lock, waits until the domain's other transactions have ended, and commits; from there
//! on its barriers do nothing, and it is as if it had held the domain from the start ([`irrevocable`]).
//!
//! What a transaction does with plain code (new objects, counts, blocks of the C library) it notes with how
//! to undo it, and what must not happen before it is over. Its caller, outside of it, has that run
//! ([`ame_elision_run`]).
//!
//! A thread in here never sleeps: an interpreter that stops all its threads would wait for it. Who would have
//! to wait for another transaction for long is rolled back instead, and takes the domain the usual way. So is
//! who has been rolled back twice.

use crate::clock;
use crate::config::{config, Elide};
use crate::domain::{self, Domain, Gil, Given};
use crate::entry::speculative;
use crate::heap::granule;
use crate::module;
use crate::protocol;
use crate::sharing;
use crate::stack::Snapshot;
use crate::stats::Count;
use crate::tables;
use crate::thread::Thread;
use crate::tls::tls;
use crate::transaction;
use crate::worth::Worth;
use ame_abi::trace::cause;
use ame_abi::{GRANULE, WINDOW};
use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_void, CStr};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::Mutex;

type Callback = unsafe extern "C" fn(*mut c_void);

#[derive(Clone, Copy)]
struct Action {
    run: Callback,
    argument: *mut c_void,
}

impl Action {
    fn is(&self, run: Callback, argument: *mut c_void) -> bool {
        self.argument == argument && std::ptr::fn_addr_eq(self.run, run)
    }
}

/// `struct ame_elided_entry` of `ame_rt.h`: a way into an extension, a static variable of its code.
#[repr(C)]
pub struct Entry {
    name: *const c_char,
    /// Times to hold the domain before elision is tried again.
    skip: AtomicU32,
    /// How many it will be after the next failure: doubles with each, halves with each success.
    penalty: AtomicU32,
}

const MOST_PENALTY: u32 = 256;

impl Entry {
    fn may(&self) -> bool {
        let skip = self.skip.load(Ordering::Relaxed);
        if skip != 0 {
            self.skip.store(skip - 1, Ordering::Relaxed);
        }
        skip == 0
    }

    fn failed(&self) {
        let penalty = self.penalty.load(Ordering::Relaxed);
        self.skip.store(penalty, Ordering::Relaxed);
        self.penalty
            .store((2 * penalty + 1).min(MOST_PENALTY), Ordering::Relaxed);
    }

    fn succeeded(&self) {
        let penalty = self.penalty.load(Ordering::Relaxed);
        if penalty != 0 {
            self.penalty.store(penalty / 2, Ordering::Relaxed);
        }
    }
}

/// A thread's part of it.
pub struct Elision {
    /// Of the current transaction.
    domain: Option<&'static Domain>,
    entry: Option<&'static Entry>,
    /// What the stack's end is for all other transactions.
    base: usize,
    /// The next entry holds its domain.
    must_hold: bool,
    /// Rollbacks since the last commit.
    failures: u32,
    on_commit: Vec<Action>,
    on_abort: Vec<Action>,
    /// Entries that committed as transactions, by the domain's number. Others read it: it stays where it is.
    elided: Box<[Count]>,
    /// See `Worth::elides`.
    looks: u32,
}

impl Default for Elision {
    fn default() -> Self {
        Elision {
            domain: None,
            entry: None,
            base: 0,
            must_hold: false,
            failures: 0,
            on_commit: Vec::new(),
            on_abort: Vec::new(),
            elided: (0..=domain::MAX_DOMAINS)
                .map(|_| Count::default())
                .collect(),
            looks: 0,
        }
    }
}

/// Rollbacks after which an entry holds its domain.
const MOST_FAILURES: u32 = 2;

impl Elision {
    /// Whether the thread is in a domain as a transaction, or begins it.
    #[inline(always)]
    pub fn is_on(&self) -> bool {
        self.domain.is_some()
    }

    /// The transaction is over.
    fn leave(&mut self, slot: u32, snapshot: &mut Snapshot) {
        sharing::leave(&tables::peer(slot).shared);
        snapshot.set_base(self.base);
        self.domain = None;
    }

    /// The transaction has been undone.
    pub fn rolled_back(&mut self, slot: u32, snapshot: &mut Snapshot) {
        if let Some(domain) = self.domain {
            domain.sharing.rolled_back.fetch_add(1, Ordering::Relaxed);
        }
        self.failures += 1;
        if self.failures >= MOST_FAILURES {
            self.must_hold = true;
        }
        if let Some(entry) = self.entry.filter(|_| self.must_hold) {
            entry.failed();
        }
        self.leave(slot, snapshot);
    }

    /// The thread ends.
    pub fn retire(&self) {
        for domain in domain::all().iter() {
            let n = self.elided_in(domain);
            domain.sharing.elided.fetch_add(n, Ordering::Relaxed);
        }
    }

    pub fn elided_in(&self, domain: &Domain) -> u64 {
        self.elided[domain.number as usize].get()
    }
}

/// A domain's part of it.
#[derive(Default)]
pub struct Sharing {
    /// Whether there has ever been a transaction in it.
    pub used: AtomicBool,
    pub worth: Worth,
    /// Entries as transactions, of threads that have ended.
    pub elided: AtomicU64,
    /// Those that came to hold the domain in the middle.
    pub serialised: AtomicU64,
    pub rolled_back: AtomicU64,
    /// Why, and how often: by entry and reason, two strings that stay.
    reasons: Mutex<BTreeMap<(usize, usize), u64>>,
}

impl Sharing {
    fn note(&self, entry: Option<&Entry>, why: *const c_char) {
        self.serialised.fetch_add(1, Ordering::Relaxed);
        let name = entry.map_or(c"?".as_ptr(), |entry| entry.name);
        let mut reasons = self.reasons.lock().unwrap_or_else(|e| e.into_inner());
        *reasons.entry((name as usize, why as usize)).or_default() += 1;
    }

    /// Most frequent first.
    pub fn reasons(&self) -> Vec<Reason> {
        let reasons = self.reasons.lock().unwrap_or_else(|e| e.into_inner());
        let mut all: Vec<Reason> = reasons
            .iter()
            .map(|(&(entry, why), &count)| Reason {
                entry: entry as *const c_char,
                why: why as *const c_char,
                count,
            })
            .collect();
        all.sort_by_key(|reason| std::cmp::Reverse(reason.count));
        all
    }
}

/// `struct ame_elision_reason` of `ame.h`.
#[repr(C)]
pub struct Reason {
    entry: *const c_char,
    why: *const c_char,
    pub count: u64,
}

impl Reason {
    /// The entry, and why.
    pub fn texts(&self) -> [&CStr; 2] {
        // SAFETY: C strings that stay.
        [self.entry, self.why].map(|text| unsafe { CStr::from_ptr(text) })
    }
}

/// # Safety
/// `domain` came from `ame_domain_open`; `out` has room for five numbers (`struct ame_elision_counts`).
#[no_mangle]
pub unsafe extern "C" fn ame_elision_counts(domain: *const Domain, out: *mut [u64; 5]) {
    // SAFETY: the caller's promise.
    unsafe { out.write(counts(&*domain)) };
}

/// As the fields of `struct ame_elision_counts`.
pub fn counts(domain: &Domain) -> [u64; 5] {
    let sharing = &domain.sharing;
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    [
        domain.elided(),
        of(&sharing.serialised),
        of(&sharing.rolled_back),
        of(&sharing.worth.trials),
        of(&sharing.worth.won),
    ]
}

/// # Safety
/// `domain` came from `ame_domain_open`; `out` has room for so many.
#[no_mangle]
pub unsafe extern "C" fn ame_elision_reasons(
    domain: *const Domain,
    out: *mut Reason,
    room: usize,
) -> usize {
    // SAFETY: the caller's promise.
    let all = unsafe { (*domain).sharing.reasons() };
    let n = all.len();
    for (i, reason) in all.into_iter().take(room).enumerate() {
        // SAFETY: the caller's promise.
        unsafe { out.add(i).write(reason) };
    }
    n
}

/// The words of all threads that may be in a domain, but the one in `slot`.
fn others(slot: u32) -> impl Iterator<Item = &'static AtomicU32> {
    (0..tables::peer_count().load(Ordering::SeqCst))
        .filter(move |&other| other != slot)
        .map(|other| &tables::peer(other).shared)
}

/// By who has just taken the lock, and is in no transaction: whether the domain is empty. Tried so often.
pub fn is_empty(domain: &Domain, tries: u32) -> bool {
    // The lock was taken by a sequentially consistent instruction, and who joins fences between the same of this and
    // its look at the lock: who has not been seen here sees the lock.
    if !domain.sharing.used.load(Ordering::SeqCst) {
        return true;
    }
    sharing::close();
    for _ in 0..tries {
        if sharing::is_empty(others(u32::MAX), domain.number) {
            return true;
        }
        std::hint::spin_loop();
    }
    false
}

/// Waits until it is, without an end. The thread may sleep.
pub fn await_empty(domain: &Domain) {
    const SLEEP_NS: i64 = 50_000;
    if is_empty(domain, 1000) {
        return;
    }
    for member in others(u32::MAX) {
        while member.load(Ordering::Acquire) == domain.number {
            crate::primitive::futex_wait(member, domain.number, SLEEP_NS);
        }
    }
}

/// Cycles that a thread waits for a domain to be free before it takes the way of those who hold it.
const PATIENCE: u64 = 5_000;

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_elision_join(
    domain: *const Domain,
    entry: *const Entry,
    end_of_frames: *const c_void,
) -> c_int {
    // SAFETY: the caller's promise; both live forever.
    let (domain, entry): (&'static Domain, &'static Entry) = unsafe { (&*domain, &*entry) };
    // SAFETY: the thread's own state.
    let thread = unsafe { &mut *Thread::get() };
    if std::mem::take(&mut thread.elision.must_hold) {
        thread.elision.failures = 0;
        return 0;
    }
    let wanted = match config().elide {
        Elide::Never => false,
        // With a GIL the glue has decided, by the time that entries spend without it.
        Elide::WhereFaster => domain.gil().is_some() || is_worth(thread, domain),
        Elide::Always => true,
    };
    if !wanted || thread.depth != 0 || WINDOW_BROKEN.load(Ordering::Relaxed) || !entry.may() {
        return 0;
    }
    if !domain.sharing.used.load(Ordering::Relaxed) {
        // Short transactions that write: each first write beside an unfenced reader would cost a handshake.
        crate::access::set_fenced(true);
        domain.sharing.used.store(true, Ordering::SeqCst);
    }
    if !sharing::join(&thread.peer().shared, domain.number, &domain.lock)
        && !join_soon(thread, domain)
    {
        return 0;
    }
    let end = (end_of_frames as usize).next_multiple_of(GRANULE);
    thread.elision.domain = Some(domain);
    thread.elision.entry = Some(entry);
    thread.elision.base = thread.snapshot.set_base(end);
    1
}

#[inline(always)]
fn is_worth(thread: &mut Thread, domain: &Domain) -> bool {
    let taken = || {
        let owner = domain.lock.owner();
        // It may have lent it.
        owner != 0 && owner != domain::number()
    };
    let entries = || domain.entries() + domain.elided();
    domain
        .sharing
        .worth
        .elides(&mut thread.elision.looks, taken, entries)
}

/// Whether a domain may stay with its owner, so that transactions would have to take it away first.
pub fn may_hold_back(domain: &Domain) -> bool {
    config().elide != Elide::Always && domain.gil().is_none() && domain.sharing.worth.is_alone()
}

#[cold]
fn join_soon(thread: &Thread, domain: &Domain) -> bool {
    let start = clock::cycles();
    // What the thread has lent it claims back.
    while !domain.lock.is_free() {
        domain.lock.unbias();
        if domain.lock.owner() == domain::number() || clock::cycles() - start > PATIENCE {
            return false;
        }
        std::hint::spin_loop();
    }
    sharing::join(&thread.peer().shared, domain.number, &domain.lock)
}

/// Commits, if the transaction is still one; else the thread holds the domain.
#[no_mangle]
pub extern "C" fn ame_elision_end() -> c_int {
    // SAFETY: the thread's own state, which one that has always held the domain may not have.
    let Some(thread) = (unsafe { Thread::current().as_mut() }) else {
        return 0;
    };
    let Some(domain) = thread.elision.domain else {
        return 0;
    };
    thread.elision.on_abort.clear();
    transaction::commit();
    // SAFETY: as above; commit may have run handlers of signals, which leave it as it was.
    let thread = unsafe { &mut *Thread::current() };
    thread.elision.leave(thread.me.slot, &mut thread.snapshot);
    thread.elision.failures = 0;
    if let Some(entry) = thread.elision.entry {
        entry.succeeded();
    }
    thread.elision.elided[domain.number as usize].add(1);
    1
}

/// The thread becomes the holder of the domain, and commits.
#[cold]
pub fn irrevocable(thread: &mut Thread, pc: u64, why: *const c_char) {
    let Some(domain) = thread.elision.domain else {
        return;
    };
    let me = domain::number();
    if !domain.lock.try_acquire(me) {
        // Somebody holds it, or wants the same and waits for us.
        thread.elision.must_hold = true;
        transaction::abort(thread, cause::LOCK, pc);
    }
    sharing::close();
    // Those inside may need the GIL to come to their end.
    let gil = domain
        .gil()
        .filter(|_| !sharing::is_empty(others(thread.me.slot), domain.number));
    let given = gil.map_or(Given::NotHeld, Gil::release);
    let mut steps = 0u32;
    while !sharing::is_empty(others(thread.me.slot), domain.number) {
        protocol::answer_fence(thread.me);
        // Without a GIL this thread is attached: one inside may wait, detached, for an object's lock, and be stopped by a
        // collector that waits for this one.
        let too_long = gil.is_none() && steps == MOST_STEPS;
        if thread.me.doomed() || given == Given::Kept || too_long {
            domain.lock.release(me);
            thread.elision.must_hold = true;
            transaction::abort(thread, cause::WOUNDED, pc);
        }
        steps += 1;
        match steps % 1000 {
            0 if gil.is_some() => std::thread::sleep(LOOK_AGAIN),
            0 => std::thread::yield_now(),
            _ => std::hint::spin_loop(),
        }
    }
    domain.taken();
    domain.sharing.note(thread.elision.entry, why);
    if let Some(entry) = thread.elision.entry {
        entry.failed();
    }
    thread.elision.failures = 0;
    thread.depth = 1;
    transaction::commit();
    // SAFETY: the thread's own state.
    let thread = unsafe { &mut *Thread::current() };
    thread.elision.on_abort.clear();
    thread.elision.leave(thread.me.slot, &mut thread.snapshot);
    if let Some(gil) = gil.filter(|_| given == Given::Given) {
        gil.take();
    }
}

/// Looks at transactions inside, some tenths of a millisecond.
const MOST_STEPS: u32 = 20_000;

/// Between two looks at transactions that may take long, because they run without the GIL.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_micros(50);

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_elision_irrevocable(why: *const c_char) {
    if let Some(thread) = speculative() {
        if thread.elision.is_on() {
            irrevocable(thread, crate::caller::pc(), why);
        } else {
            transaction::make_exclusive(thread, 0);
        }
    }
}

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_elision_choose(
    body: *const c_void,
    plain: *const c_void,
    name: *const c_char,
) -> *const c_void {
    if tls().inside.load(Ordering::Relaxed) == 0 {
        return plain;
    }
    if body.is_null() {
        // SAFETY: the caller's promise.
        unsafe { ame_elision_irrevocable(name) };
        return plain;
    }
    body
}

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_elision_target(target: *const c_void) -> *const c_void {
    if tls().inside.load(Ordering::Relaxed) != 0 && !module::instrumented(target as usize) {
        let ours = [
            ame_elision_malloc as *const c_void,
            ame_elision_calloc as *const c_void,
            ame_elision_realloc as *const c_void,
            ame_elision_free as *const c_void,
            ame_elision_strdup as *const c_void,
            ame_elision_strndup as *const c_void,
        ];
        if !ours.contains(&target) {
            // SAFETY: a C string.
            unsafe { ame_elision_irrevocable(c"a call by pointer".as_ptr()) };
        }
    }
    target
}

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_elision_on_commit(run: Callback, argument: *mut c_void) {
    // SAFETY: the thread's own state.
    let thread = unsafe { &mut *Thread::current() };
    thread.elision.on_commit.push(Action { run, argument });
}

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_elision_on_abort(run: Callback, argument: *mut c_void) {
    // SAFETY: the thread's own state.
    let thread = unsafe { &mut *Thread::current() };
    thread.elision.on_abort.push(Action { run, argument });
}

/// How far back a note is looked for that something cancels.
const RECENT: usize = 4;

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_elision_forget(run: Callback, argument: *mut c_void) -> c_int {
    // SAFETY: the thread's own state.
    let log = unsafe { &mut (*Thread::current()).elision.on_abort };
    let from = log.len().saturating_sub(RECENT);
    let found = log[from..]
        .iter()
        .rposition(|action| action.is(run, argument));
    match found {
        Some(at) => {
            log.remove(from + at);
            1
        }
        None => 0,
    }
}

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_elision_is_noted(run: Callback, argument: *mut c_void) -> c_int {
    // SAFETY: the thread's own state.
    let log = unsafe { &(*Thread::current()).elision.on_abort };
    log.iter()
        .rev()
        .any(|action| action.is(run, argument))
        .into()
}

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_elision_run(committed: c_int) {
    let current = Thread::current();
    // SAFETY: the thread's own state, of which nothing is kept while the actions run: they may enter domains.
    unsafe {
        let mut log;
        {
            let elision = &mut (*current).elision;
            if committed != 0 {
                elision.on_abort.clear();
                log = std::mem::take(&mut elision.on_commit);
            } else {
                elision.on_commit.clear();
                log = std::mem::take(&mut elision.on_abort);
                log.reverse();
            }
        }
        if log.capacity() == 0 {
            return;
        }
        for action in &log {
            (action.run)(action.argument);
        }
        log.clear();
        let elision = &mut (*current).elision;
        let place = match committed {
            0 => &mut elision.on_abort,
            _ => &mut elision.on_commit,
        };
        if place.capacity() == 0 && log.capacity() < 4096 {
            *place = log;
        }
    }
}

/// Whether the log of what waits for the commit is empty: most often.
#[no_mangle]
pub extern "C" fn ame_elision_waits() -> c_int {
    // SAFETY: the thread's own state.
    unsafe { Thread::current().as_ref() }
        .is_some_and(|thread| !thread.elision.on_commit.is_empty())
        .into()
}

// --- the address window --------------------------------------------------------------------------------

/// Two addresses that are equal modulo the window have been written: no undo log can tell them apart.
static WINDOW_BROKEN: AtomicBool = AtomicBool::new(false);
/// Addresses belong to pieces of the window, which belong to one multiple of it each.
const PIECE: usize = 64 << 20;
static OWNERS: [AtomicU16; WINDOW as usize / PIECE] =
    [const { AtomicU16::new(0) }; WINDOW as usize / PIECE];

/// The owner of the piece that an address lies in, and what it must be for the address to be written there.
#[inline(always)]
fn piece(address: usize) -> (&'static AtomicU16, u16) {
    let owner = &OWNERS[address % WINDOW as usize / PIECE];
    (owner, (address / WINDOW as usize) as u16 + 1)
}

/// Before a granule is locked and logged. An interpreter maps memory wherever it likes, and when; so it is here that
/// it shows whether two mappings alias. Then nothing is elided any more.
#[inline(always)]
pub fn check_window(thread: &mut Thread, address: usize, pc: u64) {
    let (owner, high) = piece(address);
    if owner.load(Ordering::Relaxed) != high {
        new_piece(thread, owner, high, pc);
    }
}

#[cold]
#[inline(never)]
fn new_piece(thread: &mut Thread, owner: &AtomicU16, high: u16, pc: u64) {
    let claimed = owner.compare_exchange(0, high, Ordering::Relaxed, Ordering::Relaxed);
    if claimed.is_err_and(|other| other != high) {
        WINDOW_BROKEN.store(true, Ordering::Relaxed);
        thread.elision.must_hold = true;
        transaction::abort(thread, cause::LOCK, pc);
    }
}

// --- blocks of the C library's allocator ----------------------------------------------------------------

/// The C library has a word of its own behind each block: the block must end in a granule before that.
fn room(size: usize) -> usize {
    match size.checked_next_multiple_of(GRANULE) {
        Some(whole) => whole.saturating_add(8),
        None => usize::MAX,
    }
}

unsafe extern "C" fn free_now(block: *mut c_void) {
    // SAFETY: a block of the C library that nobody uses any more.
    unsafe { libc::free(block) };
}

fn in_domain() -> Option<&'static mut Thread> {
    // SAFETY: the thread's own state.
    unsafe { Thread::current().as_mut() }
        .filter(|thread| thread.elision.is_on() && thread.depth != 0)
}

fn note_block(block: *mut c_void, size: usize) -> *mut c_void {
    if !block.is_null() {
        if let Some(thread) = in_domain() {
            stamp(thread, block as usize, size);
            thread.elision.on_abort.push(Action {
                run: free_now,
                argument: block,
            });
        }
    }
    block
}

/// Larger blocks are locked and logged where they are written.
const MOST_STAMPED: usize = 1024;

/// New memory, which nobody else knows of, is held without a lock, and a rollback leaves what was written there.
fn stamp(thread: &mut Thread, start: usize, size: usize) {
    // The block has whole granules of its own, and none across the end of the tables.
    let first = granule(start);
    let n = size.div_ceil(GRANULE);
    if !start.is_multiple_of(GRANULE)
        || size > MOST_STAMPED
        || first as usize + n > u32::MAX as usize
    {
        return;
    }
    let (owner, high) = piece(start);
    if owner.load(Ordering::Relaxed) != high {
        return;
    }
    let held = thread.me.ver + 1;
    for g in first..first + n as u32 {
        // Another thread may keep the lock, from when the memory was something else: it is taken away when this is written.
        let holder = tables::lock(g).load(Ordering::Relaxed);
        if holder == 0 || holder == thread.me.lock_word() {
            *thread.mark(g) = held;
        }
    }
}

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_elision_fresh(start: *const c_void, size: usize) {
    if let Some(thread) = in_domain() {
        stamp(thread, start as usize, size);
    }
}

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_elision_visit(noted: Callback, visit: Callback) {
    // SAFETY: the thread's own state, which the visitor leaves alone.
    let log = unsafe { &(*Thread::current()).elision.on_abort };
    for action in log.iter().filter(|a| std::ptr::fn_addr_eq(a.run, noted)) {
        // SAFETY: the caller's promise.
        unsafe { visit(action.argument) };
    }
}

#[no_mangle]
pub extern "C" fn ame_elision_malloc(size: usize) -> *mut c_void {
    // SAFETY: any size.
    note_block(unsafe { libc::malloc(room(size)) }, size)
}

#[no_mangle]
pub extern "C" fn ame_elision_calloc(count: usize, size: usize) -> *mut c_void {
    let bytes = count.checked_mul(size).map_or(usize::MAX, room);
    // SAFETY: any size.
    note_block(unsafe { libc::calloc(1, bytes) }, count.wrapping_mul(size))
}

/// # Safety
/// As `realloc`.
#[no_mangle]
pub unsafe extern "C" fn ame_elision_realloc(block: *mut c_void, size: usize) -> *mut c_void {
    if in_domain().is_none() {
        // SAFETY: the caller's promise.
        return unsafe { libc::realloc(block, room(size)) };
    }
    let new = ame_elision_malloc(size);
    if !new.is_null() && !block.is_null() {
        // SAFETY: both blocks have so many bytes.
        unsafe {
            let n = libc::malloc_usable_size(block).min(size);
            crate::entry::ame_read_range(block, n);
            crate::entry::ame_write_range(new, n);
            std::ptr::copy_nonoverlapping(block.cast::<u8>(), new.cast::<u8>(), n);
            ame_elision_free(block);
        }
    }
    new
}

/// # Safety
/// As `free`.
#[no_mangle]
pub unsafe extern "C" fn ame_elision_free(block: *mut c_void) {
    match in_domain() {
        Some(_) if block.is_null() => {}
        Some(thread) => thread.elision.on_commit.push(Action {
            run: free_now,
            argument: block,
        }),
        // SAFETY: the caller's promise.
        None => unsafe { libc::free(block) },
    }
}

/// # Safety
/// As `strdup`.
#[no_mangle]
pub unsafe extern "C" fn ame_elision_strdup(text: *const c_char) -> *mut c_char {
    // SAFETY: the caller's promise.
    unsafe { ame_elision_strndup(text, usize::MAX - 1) }
}

/// # Safety
/// As `strndup`.
#[no_mangle]
pub unsafe extern "C" fn ame_elision_strndup(text: *const c_char, most: usize) -> *mut c_char {
    // SAFETY: the caller's promise.
    unsafe {
        let n = libc::strnlen(text, most);
        crate::entry::ame_read_range(text.cast(), n.saturating_add(1).min(most));
        let new = ame_elision_malloc(n + 1).cast::<c_char>();
        if !new.is_null() {
            crate::entry::ame_write_range(new.cast(), n + 1);
            std::ptr::copy_nonoverlapping(text, new, n);
            *new.add(n) = 0;
        }
        new
    }
}

/// What a domain's transactions came to, for `AME_STATS=1`.
pub fn print(domain: &Domain) {
    let [elided, serialised, rolled_back, trials, won] = counts(domain);
    if elided + serialised + rolled_back == 0 {
        return;
    }
    eprintln!(
        "ame: domain {}: {elided} elided, {serialised} serialised, {rolled_back} rolled back; worth it in {won} of \
         {trials} trials{}",
        domain.name().to_string_lossy(),
        if WINDOW_BROKEN.load(Ordering::Relaxed) {
            "; elision ended: addresses alias"
        } else {
            ""
        }
    );
    for reason in domain.sharing.reasons().into_iter().take(20) {
        let [entry, why] = reason.texts().map(CStr::to_string_lossy);
        eprintln!("ame:   {} times {entry}: {why}", reason.count);
    }
}
