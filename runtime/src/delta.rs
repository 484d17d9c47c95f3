//! Reference counts and counters that do not conflict.
//!
//! A transaction collects what it adds to a field instead of writing it. At commit it locks every
//! field's granule (waiting for writers, ignoring readers), and only when it holds them all adds
//! the deltas: until then it can still be rolled back and nobody has seen anything.

use crate::heap::granule;
use crate::hook::Hook;
use crate::protocol::{self, Want};
use crate::signal;
use crate::thread::{Mode, Thread};
use crate::trace;
use crate::transaction;
use crate::undo;
use ame_abi::trace::access;
use std::collections::HashMap;
use std::ffi::c_void;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem::{self, offset_of};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU8, Ordering};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Width {
    W32,
    W64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Reaching zero matters.
    Refcount,
    Counter,
}

struct Delta {
    field: usize,
    delta: i64,
    width: Width,
    kind: Kind,
    /// Changes in this transaction.
    changes: u32,
    /// Whether those of all transactions are many.
    hot: bool,
}

/// Addresses spread well by their middle bits; one multiplication is enough.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(b as u64);
        }
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
}

/// A field that was changed lately, and its entry in [`Deltas::deltas`].
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Recent {
    field: usize,
    delta: Option<NonNull<Delta>>,
}

#[derive(Default)]
pub struct Deltas {
    deltas: Vec<Delta>,
    index: HashMap<usize, usize, BuildHasherDefault<AddressHasher>>,
    /// Compiled code finds counts here by bits of their address ([`RECENT_MASK`]), and changes their entries itself. Only
    /// in transactions that can be rolled back: in others a signal's handler could do the same between two of its steps.
    recent: [Recent; RECENT],
    dead: Vec<usize>,
}

const RECENT: usize = 32;
/// Of an address: the offset in bytes of where it may be found among the recent ones.
pub const RECENT_MASK: usize = (RECENT - 1) * mem::size_of::<Recent>();
/// For the stubs: where in [`Deltas`] they are, and where in them and in what they point to is what.
pub const RECENT_FIELD: usize = offset_of!(Deltas, recent) + offset_of!(Recent, field);
pub const RECENT_DELTA: usize = offset_of!(Deltas, recent) + offset_of!(Recent, delta);
pub const DELTA_DELTA: usize = offset_of!(Delta, delta);
pub const DELTA_CHANGES: usize = offset_of!(Delta, changes);

/// So many entries, with the index, still fit a processor's second cache. Beyond, each change of a count waits for memory.
const MANY: usize = 1 << 13;
/// So many are sorted in next to no time. (Thousands took a seventh of the time of threads that count references to the
/// same thousands of objects.)
const FEW: usize = 64;

impl Deltas {
    /// `revocable`: nobody else touches the entries between two instructions.
    fn entry(&mut self, field: usize, width: Width, kind: Kind, revocable: bool) -> &mut Delta {
        let place = (field & RECENT_MASK) / mem::size_of::<Recent>();
        let recent = self.recent[place];
        if let (true, Some(mut delta)) = (recent.field == field, recent.delta) {
            // SAFETY: where an entry is, until [`Self::forget_recent`].
            return unsafe { delta.as_mut() };
        }
        let next = self.deltas.len();
        let at = *self.index.entry(field).or_insert(next);
        if at == next {
            if next == self.deltas.capacity() {
                // They move.
                self.forget_recent();
            }
            self.deltas.push(Delta {
                field,
                delta: 0,
                width,
                kind,
                changes: 0,
                hot: false,
            });
            if self.deltas.len() % MANY == 0 {
                transaction::ask_for_end();
            }
        }
        let entry = &mut self.deltas[at];
        if revocable {
            self.recent[place] = Recent {
                field,
                delta: Some(entry.into()),
            };
        }
        entry
    }

    /// Sends compiled code to [`add`] again.
    pub fn forget_recent(&mut self) {
        self.recent = Default::default();
    }

    fn of(&self, field: usize) -> i64 {
        self.index.get(&field).map_or(0, |&i| self.deltas[i].delta)
    }

    fn take(&mut self, field: usize) -> i64 {
        if self.deltas.is_empty() {
            return 0;
        }
        match self.index.get(&field) {
            Some(&i) => mem::take(&mut self.deltas[i].delta),
            None => 0,
        }
    }

    pub fn drop_all(&mut self) {
        if self.deltas.is_empty() {
            return;
        }
        self.forget_recent();
        self.deltas.clear();
        self.index.clear();
        self.dead.clear();
    }

    /// Fields whose count the merge brought to zero.
    pub fn take_dead(&mut self) -> Vec<usize> {
        mem::take(&mut self.dead)
    }
}

/// # Safety
/// `field` is a valid, aligned field of that width.
unsafe fn load(field: usize, width: Width) -> i64 {
    // SAFETY: the caller's promise. Atomic, because another thread may be merging.
    unsafe {
        match width {
            Width::W32 => (*(field as *const AtomicI32)).load(Ordering::Acquire) as i64,
            Width::W64 => (*(field as *const AtomicI64)).load(Ordering::Acquire),
        }
    }
}

/// Adds without the lock prefix: the caller excludes other writers.
///
/// # Safety
/// As [`load`].
unsafe fn add_in_place(field: usize, width: Width, delta: i64) -> i64 {
    // SAFETY: the caller's promise.
    unsafe {
        let sum = load(field, width).wrapping_add(delta);
        match width {
            Width::W32 => {
                (*(field as *const AtomicI32)).store(sum as i32, Ordering::Release);
                sum as i32 as i64
            }
            Width::W64 => {
                (*(field as *const AtomicI64)).store(sum, Ordering::Release);
                sum
            }
        }
    }
}

/// Whether this is a count that nobody changes any more, where a host has such ([`HOT`]).
fn is_immortal(count: i64) -> bool {
    (count as i32) < 0 && HEADERS.load(Ordering::Relaxed)
}

/// Adds to the field as the calling transaction sees it; returns the sum.
///
/// # Safety
/// `field` is a valid, aligned field of that width.
pub unsafe fn add(field: usize, width: Width, kind: Kind, delta: i64, pc: u64) -> i64 {
    // SAFETY: the thread's own state; null outside of any transaction ever.
    let thread = match unsafe { Thread::current().as_mut() } {
        Some(thread) if thread.speculative() => thread,
        // SAFETY: the caller's promise.
        _ => return unsafe { add_in_place(field, width, delta) },
    };
    let _hold = signal::hold();
    let written = thread.me.ver + 1;
    if *thread.mark(granule(field)) == written
        || thread.allocations.stamp_if_fresh(thread.me, field)
    {
        // What was added before the granule was ours counts as well.
        let pending = thread.deltas.take(field);
        // SAFETY: fresh, or locked by us and logged. Not immortal: the caller looked while it was ours.
        return unsafe { add_in_place(field, width, delta.wrapping_add(pending)) };
    }
    if HEADERS.load(Ordering::Relaxed) && kind == Kind::Refcount {
        let g = granule(field);
        if !shared(g).load(Ordering::Relaxed) {
            // SAFETY: the caller's promise.
            unsafe { undo::touch(field) };
            if lock(thread, g) {
                // SAFETY: readable, and locked.
                unsafe { thread.undo.push_granule(field & !15, pc) };
                *thread.mark(g) = written;
                if trace::recording() {
                    trace::note_access(thread.me.slot, field, pc);
                }
                let pending = thread.deltas.take(field);
                // SAFETY: locked by us and logged.
                return unsafe { add_locked(field, width, delta.wrapping_add(pending)) };
            }
            shared(g).store(true, Ordering::Relaxed);
        }
    }
    thread.eventful = true;
    let revocable = thread.mode == Mode::Revocable;
    let entry = thread.deltas.entry(field, width, kind, revocable);
    entry.delta = entry.delta.wrapping_add(delta);
    entry.changes += 1;
    // SAFETY: the caller's promise.
    let count = unsafe { load(field, width) };
    let sum = count.wrapping_add(entry.delta);
    if sum != 0 || kind == Kind::Counter || is_immortal(count) {
        return sum;
    }
    // The object dies here, unless another transaction has just merged a reference: claim it.
    // SAFETY: the field is writable memory of the program.
    unsafe { crate::access::write(thread, field, pc) };
    let delta = thread.deltas.take(field);
    // SAFETY: the granule is ours now.
    unsafe { add_locked(field, width, delta) }
}

/// Adds to a count that has just been locked: it may have become immortal since the caller looked.
///
/// # Safety
/// As [`load`].
unsafe fn add_locked(field: usize, width: Width, delta: i64) -> i64 {
    // SAFETY: the caller's promise.
    unsafe {
        let count = load(field, width);
        if is_immortal(count) {
            return count;
        }
        add_in_place(field, width, delta)
    }
}

/// Set when a granule with a reference count holds nothing else that is written with locks:
/// then a count is locked for its first change, without regard to readers, and changed in place.
pub static HEADERS: AtomicBool = AtomicBool::new(false);

pub fn set_headers(on: bool) {
    HEADERS.store(on, Ordering::Relaxed);
}

/// Whether several threads have wanted to change counts of this granule (or of one with the same
/// hash) at once. Those go through deltas.
fn shared(g: u32) -> &'static AtomicBool {
    static SHARED: [AtomicBool; 1 << 16] = [const { AtomicBool::new(false) }; 1 << 16];
    &SHARED[hash(g)]
}

fn hash(g: u32) -> usize {
    (g ^ g >> 16) as u16 as usize
}

/// The field as the calling transaction sees it.
///
/// # Safety
/// As [`add`].
pub unsafe fn read(field: usize, width: Width) -> i64 {
    // SAFETY: the caller's promise, and the thread's own state.
    unsafe {
        let Some(thread) = Thread::current().as_mut() else {
            return load(field, width);
        };
        if !thread.speculative() {
            return load(field, width);
        }
        let _hold = signal::hold();
        if HEADERS.load(Ordering::Relaxed) {
            let lock = crate::tables::lock(granule(field));
            loop {
                let free = |holder: u16| holder == 0 || holder == thread.me.slot as u16 + 1;
                let before = free(lock.load(Ordering::Acquire));
                let memory = load(field, width);
                if (memory as i32) < 0 {
                    // A count that nobody changes.
                    return memory;
                }
                if before && free(lock.load(Ordering::Acquire)) {
                    return memory.wrapping_add(thread.deltas.of(field));
                }
                shared(granule(field)).store(true, Ordering::Relaxed);
                // Somebody changes it and may take that back: wait.
                let want = Want {
                    access: access::READ_OF_WRITTEN,
                    address: field as u64,
                    pc: 0,
                };
                let result = protocol::await_unlocked(thread.me, granule(field), want);
                transaction::check(thread, result, 0);
            }
        }
        load(field, width).wrapping_add(thread.deltas.of(field))
    }
}

/// A granule has just been locked for writing: what was added to counts in it before is added now,
/// because from here on they are changed in place.
pub fn fold(thread: &mut Thread, start: usize) {
    if thread.deltas.deltas.is_empty() {
        return;
    }
    for field in (start..start + ame_abi::GRANULE).step_by(4) {
        let Some(&i) = thread.deltas.index.get(&field) else {
            continue;
        };
        let (delta, width) = (thread.deltas.deltas[i].delta, thread.deltas.deltas[i].width);
        thread.deltas.deltas[i].delta = 0;
        if delta != 0 {
            // SAFETY: locked by us and logged.
            unsafe { add_locked(field, width, delta) };
        }
    }
}

/// Adds all deltas to memory. May roll back instead of returning, as long as it has added none.
pub fn merge(thread: &mut Thread) {
    if thread.deltas.deltas.is_empty() {
        return;
    }
    thread.deltas.forget_recent();
    // Nobody looks for an entry from here on, and those that are sorted move.
    thread.deltas.index.clear();
    // Two threads that merge into the same counts would wait for each other for ever, and one lose all its work, if each
    // locked them in its own order.
    if thread.deltas.deltas.len() <= FEW {
        thread
            .deltas
            .deltas
            .sort_unstable_by_key(|delta| delta.field);
    }
    let hot = HOT.get();
    for i in 0..thread.deltas.deltas.len() {
        let Delta {
            field,
            delta,
            changes,
            ..
        } = thread.deltas.deltas[i];
        let g = granule(field);
        let written = thread.me.ver + 1;
        let is_hot = hot.is_some() && heat(g, changes);
        if (delta == 0 && !is_hot) || *thread.mark(g) == written {
            continue;
        }
        if !lock(thread, g) {
            shared(g).store(true, Ordering::Relaxed);
            if delta == 0 {
                continue;
            }
            let want = || Want {
                access: access::WRITE_OF_WRITTEN,
                address: field as u64,
                pc: 0,
            };
            let result = protocol::lock_for_write(thread.me, g, want);
            transaction::check(thread, result, 0);
        }
        // SAFETY: locked, readable. Logged so that release gives the lock back.
        unsafe { thread.undo.push_granule(field & !15, 0) };
        *thread.mark(g) = written;
        // What the transaction has come to hold before, it may have deallocated.
        thread.deltas.deltas[i].hot = is_hot;
    }
    let deltas = mem::take(&mut thread.deltas.deltas);
    for d in &deltas {
        let mut died = false;
        if d.delta != 0 {
            // SAFETY: fields stay valid while somebody holds a reference, and frees are deferred.
            let sum = unsafe { add_locked(d.field, d.width, d.delta) };
            if sum == 0 && d.kind == Kind::Refcount {
                died = true;
                thread.deltas.dead.push(d.field);
                if HEIRS.get().is_some() {
                    // SAFETY: as above; the granule is still locked.
                    unsafe { add_in_place(d.field, d.width, 1) };
                }
            }
        }
        if let Some(hot) = hot.filter(|_| d.kind == Kind::Refcount && d.hot && !died) {
            // SAFETY: as above. Another transaction's merge may have made it immortal meanwhile.
            let mortal = unsafe { load(d.field, d.width) as i32 > 0 };
            if mortal {
                // SAFETY: the granule is locked by a transaction that cannot fail any more.
                unsafe { hot(d.field as *mut c_void, d.changes) };
            }
        }
    }
    thread.deltas.deltas = deltas;
    thread.deltas.deltas.clear();
}

/// Deallocates an object whose count came to zero.
pub static DEALLOC: Hook<unsafe extern "C" fn(*mut c_void)> = Hook::new();

/// Gets counts that transactions have often changed although others do so too, and how often this one has, and
/// may make them immortal: negative in their lower 32 bits. It is called with the count locked, and not
/// again for one that is immortal.
pub static HOT: Hook<unsafe extern "C" fn(*mut c_void, u32)> = Hook::new();

/// Less is not worth the lock that the hook needs.
const HOT_CHANGES: u8 = 32;

/// Adds up the changes of a count, or of several with the same hash; true when they have become many once more.
fn heat(g: u32, changes: u32) -> bool {
    static HEAT: [AtomicU8; 1 << 16] = [const { AtomicU8::new(0) }; 1 << 16];
    // Two threads may overwrite each other's sums: these are about right.
    let heat = &HEAT[hash(g)];
    let sum = changes.saturating_add(heat.load(Ordering::Relaxed).into());
    let hot = sum >= HOT_CHANGES.into();
    heat.store(if hot { 0 } else { sum as u8 }, Ordering::Relaxed);
    hot
}

/// Gets the fields of merged counts that came to zero, which are left at one then.
pub static HEIRS: Hook<unsafe extern "C" fn(*const usize, usize)> = Hook::new();

/// Deallocates what the merge found dead, each in a transaction of its own; or gives the references
/// to who wants to do it.
pub fn deallocate(dead: Vec<usize>) {
    if dead.is_empty() {
        return;
    }
    if let Some(heirs) = HEIRS.get() {
        // SAFETY: the slice is valid during the call.
        return unsafe { heirs(dead.as_ptr(), dead.len()) };
    }
    let Some(dealloc) = DEALLOC.get() else {
        return;
    };
    for field in dead {
        // SAFETY: the count is zero, so nobody but us can reach the object; the callback accepts
        // refcount fields.
        unsafe { crate::entry::ame_atomic(dealloc, field as *mut c_void) };
    }
}

/// Takes the lock if it is free, or an earlier transaction of the thread has left it.
#[inline(always)]
fn lock(thread: &mut Thread, g: u32) -> bool {
    if thread.me.keeps() && thread.me.has_lock(g) {
        return true;
    }
    let taken = protocol::try_lock(thread.me, g).is_ok();
    if taken {
        thread.keeping.note(thread.me, g);
    }
    taken
}
