//! Domains: what one big lock protects. All transactions of a plain C program are in "main"; an extension
//! module of a free-threaded interpreter has one of its own, which its threads hold ([`crate::handoff`]).
//!
//! What a thread holds, it holds until it waits for a domain that is taken: then it gives everything up
//! first, and waits with nothing. So there is no order of domains to keep, and nothing that can lock up.
//! Whoever gets to run next in the code of a domain that was given up takes it again in the same way.
//!
//! A call that leaves the extension *lends* what the thread holds. A GIL would be given up there only if the call
//! came to run Python code or to wait, and code relies on that more than its authors know (a dictionary whose keys
//! are strings is changed in one step). So who waits for the domain looks at the lender, and takes it over when
//! it sees it do one of the two.
//!
//! **Invariant**: the code of a domain runs attached to the interpreter only while its thread has the lock, and
//! has not lent it.

use crate::clock;
use crate::elision::{self, Sharing};
use crate::entry::ame_total_stats;
use crate::fatal;
use crate::handoff::{biased_to, Lock, MAX_NUMBER, SLOTS};
use crate::stats::Stats;
use crate::syscall::{self, Wait};
use std::ffi::{c_char, c_int, c_void, CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// `struct ame_domain_counts` of `ame.h`. Written by the owner of the lock only, but for `contended` and
/// `ns_waiting`.
#[repr(C)]
#[derive(Default)]
pub struct Counts {
    /// Times that the lock was taken.
    entries: AtomicU64,
    /// Of these, after waiting.
    contended: AtomicU64,
    /// Time of all these waits, nanoseconds.
    ns_waiting: AtomicU64,
    /// Times that it was lost in the middle: taken over during a call that leaves the extension, given up to wait
    /// for another domain, or by the extension itself (`Py_BEGIN_ALLOW_THREADS`).
    given_up: AtomicU64,
}

/// Begins as `struct ame_domain` of `ame_rt.h`: code of extensions enters and leaves what is biased to its thread.
#[repr(C)]
pub struct Domain {
    pub lock: Lock,
    counts: Counts,
    /// While it is lent: who, and where it was in the interpreter's program; for the glue.
    lender: AtomicPtr<c_void>,
    place: AtomicPtr<c_void>,
    /// How often it has been lent.
    loans: AtomicU64,
    /// From 1; as many as there are.
    pub number: u32,
    /// Who uses it: written by the owner of the lock only.
    usage: Usage,
    /// Transactions in it.
    pub sharing: Sharing,
    name: CString,
    /// Null where the interpreter has no GIL.
    gil: AtomicPtr<Gil>,
}

/// `struct ame_gil` of `ame_rt.h`: the lock of an interpreter, which a thread must not have while it waits for a domain.
#[repr(C)]
pub struct Gil {
    /// Gives it up, if the thread has it, and can.
    release: unsafe extern "C" fn() -> Given,
    /// Takes it, if the thread does not have it.
    take: unsafe extern "C" fn(),
}

/// `enum ame_gil_given` of `ame_rt.h`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Given {
    NotHeld,
    Given,
    /// The thread uses what only the GIL protects.
    Kept,
}

impl Gil {
    pub fn release(&self) -> Given {
        // SAFETY: the glue's, which can be called anywhere in the extension's code.
        unsafe { (self.release)() }
    }

    pub fn take(&self) {
        // SAFETY: as above.
        unsafe { (self.take)() }
    }
}

/// Whether a domain is used by one thread alone. To take a bias away costs as much as hundreds of entries, where
/// the kernel is a guest even thousands. So the first comes after a thousand entries in a row, and each one that was
/// taken away too soon makes the next one come later.
struct Usage {
    user: AtomicU32,
    /// Entries of one thread in a row, and calls out that it has come back from.
    streak: AtomicU32,
    /// What a bias comes after.
    needed: AtomicU32,
    /// Cycles when it came; 0 when there has been none since this was last looked at.
    since: AtomicU64,
}

impl Usage {
    const LEAST: u32 = 1000;
    const MOST: u32 = 1 << 22;
    /// Cycles: some tenths of a millisecond, less than a waiter's patience.
    const LONG: u64 = 1_000_000;

    const fn new() -> Usage {
        Usage {
            user: AtomicU32::new(0),
            streak: AtomicU32::new(0),
            needed: AtomicU32::new(Usage::LEAST),
            since: AtomicU64::new(0),
        }
    }

    /// `now` is in cycles.
    fn taken(&self, by: u32, now: impl FnOnce() -> u64) {
        if self.user.load(Ordering::Relaxed) == by {
            self.goes_on();
            return;
        }
        self.user.store(by, Ordering::Relaxed);
        self.streak.store(0, Ordering::Relaxed);
        let since = self.since.load(Ordering::Relaxed);
        if since != 0 {
            self.since.store(0, Ordering::Relaxed);
            let needed = self.needed.load(Ordering::Relaxed);
            let needed = match now() - since > Usage::LONG {
                true => needed / 4,
                false => needed.saturating_mul(8),
            };
            self.needed
                .store(needed.clamp(Usage::LEAST, Usage::MOST), Ordering::Relaxed);
        }
    }

    /// By the owner.
    fn goes_on(&self) {
        let streak = self.streak.load(Ordering::Relaxed);
        self.streak
            .store(streak.saturating_add(1), Ordering::Relaxed);
    }

    #[inline(always)]
    fn is_one_thread_s(&self) -> bool {
        self.streak.load(Ordering::Relaxed) >= self.needed.load(Ordering::Relaxed)
    }

    fn biased(&self, now: u64) {
        self.streak.store(0, Ordering::Relaxed);
        self.since.store(now, Ordering::Relaxed);
    }
}

/// Most programs have one; an interpreter has one per extension.
pub const MAX_DOMAINS: usize = 256;

static DOMAINS: Mutex<Vec<&'static Domain>> = Mutex::new(Vec::new());

/// All that there are; nobody opens one meanwhile.
pub fn all() -> MutexGuard<'static, Vec<&'static Domain>> {
    DOMAINS.lock().unwrap_or_else(|e| e.into_inner())
}

/// `struct ame_domain_thread` of `ame_rt.h`: what a thread is in, and what it has. Its own affair: not
/// atomic in meaning, only in type.
#[repr(C)]
pub struct ThreadState {
    /// The domain whose code runs; the glue's.
    inside: AtomicPtr<Domain>,
    /// References that the glue keeps, and how many; from malloc.
    kept: AtomicPtr<c_void>,
    n_kept: AtomicU64,
    /// Where it was when it lent what it has last claimed back.
    place: AtomicPtr<c_void>,
    /// List of objects that it is freeing; the glue's.
    dying: AtomicPtr<c_void>,
    /// Entries from outside that have not ended; the glue's.
    entries: AtomicU32,
    /// Whether it gives the GIL up where it can; the glue's.
    spares: AtomicU32,
    /// With what to take the GIL again, if the thread has given it up for a while; the glue's.
    detached: AtomicPtr<c_void>,
    /// From 1; 0 before it first takes a domain.
    number: AtomicU32,
    /// What it holds, or has lent and perhaps lost: an array of `n_held` (room for all there can be).
    held: AtomicPtr<*const Domain>,
    n_held: AtomicUsize,
    /// The word of a domain with a bias to it, and its slot there; no word at all where it has no slot.
    biased: AtomicU32,
    slot: AtomicU32,
}

/// As `ame_tls`: only its symbol is used, for the calling thread's copy.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".tdata")]
#[allow(non_upper_case_globals)]
pub static ame_domain_thread: ThreadState = ThreadState {
    inside: AtomicPtr::new(null_mut()),
    kept: AtomicPtr::new(null_mut()),
    n_kept: AtomicU64::new(0),
    place: AtomicPtr::new(null_mut()),
    dying: AtomicPtr::new(null_mut()),
    entries: AtomicU32::new(0),
    spares: AtomicU32::new(0),
    detached: AtomicPtr::new(null_mut()),
    number: AtomicU32::new(0),
    held: AtomicPtr::new(null_mut()),
    n_held: AtomicUsize::new(0),
    biased: AtomicU32::new(NO_WORD),
    slot: AtomicU32::new(0),
};

const NO_WORD: u32 = u32::MAX;
/// Slots that are some thread's, as bits.
static SLOTS_IN_USE: AtomicU64 = AtomicU64::new(0);

/// Gives the thread one, so that domains can be biased to it, if one is left.
fn take_slot(thread: &ThreadState, number: u32) {
    let mut used = SLOTS_IN_USE.load(Ordering::Relaxed);
    while used != u64::MAX {
        let slot = used.trailing_ones();
        let now = used | 1 << slot;
        match SLOTS_IN_USE.compare_exchange(used, now, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => {
                thread.slot.store(slot, Ordering::Relaxed);
                thread.biased.store(biased_to(number), Ordering::Relaxed);
                return;
            }
            Err(other) => used = other,
        }
    }
}

/// By the thread, which has been inside of no domain since.
fn give_slot_back(thread: &ThreadState) {
    if thread.biased.swap(NO_WORD, Ordering::Relaxed) != NO_WORD {
        let number = thread.number.load(Ordering::Relaxed);
        for domain in all().iter() {
            domain.lock.give_bias_up(number);
        }
        let slot = thread.slot();
        SLOTS_IN_USE.fetch_and(!(1 << slot), Ordering::Release);
    }
}

#[inline(always)]
fn this_thread() -> &'static ThreadState {
    let address: *const ThreadState;
    // SAFETY: the initial-exec TLS sequence of the x86-64 ABI; the block lives as long as the thread.
    unsafe {
        core::arch::asm!(
            "mov {0}, qword ptr [rip + ame_domain_thread@GOTTPOFF]",
            "add {0}, qword ptr fs:[0]",
            out(reg) address,
            options(pure, readonly, nostack),
        );
        &*address
    }
}

/// A thread that ends in the middle (an interpreter ends its threads where they attach) leaves what it has.
struct AtEnd;

impl Drop for AtEnd {
    fn drop(&mut self) {
        ame_domain_release_all();
        let thread = this_thread();
        give_slot_back(thread);
        let kept = thread.kept.swap(null_mut(), Ordering::Relaxed);
        let held = thread.held.swap(null_mut(), Ordering::Relaxed);
        // What still runs on this thread holds nothing, and gets a number anew if it ever wants to.
        thread.number.store(0, Ordering::Relaxed);
        // SAFETY: both come from malloc, and nobody uses them any more.
        unsafe {
            libc::free(kept);
            libc::free(held.cast());
        }
    }
}

thread_local! {
    static AT_END: AtEnd = const { AtEnd };
}

/// The calling thread's number; it gets one when it has none.
#[inline]
pub fn number() -> u32 {
    match this_thread().number.load(Ordering::Relaxed) {
        0 => new_number(),
        number => number,
    }
}

#[cold]
fn new_number() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    if number > MAX_NUMBER {
        fatal!("more than {MAX_NUMBER} threads have entered a domain: start the process anew");
    }
    let thread = this_thread();
    // Not there any more in a thread that ends: then its last entries leave nothing behind, or too little.
    if AT_END.try_with(|_| ()).is_ok() {
        take_slot(thread, number);
    }
    // SAFETY: an array of pointers.
    let held = unsafe { libc::calloc(MAX_DOMAINS, size_of::<*const Domain>()) };
    if held.is_null() {
        fatal!("no memory for a thread that enters a domain");
    }
    thread.held.store(held.cast(), Ordering::Relaxed);
    thread.number.store(number, Ordering::Relaxed);
    number
}

impl ThreadState {
    /// Means something only where a domain is biased to the thread.
    #[inline(always)]
    fn slot(&self) -> u32 {
        self.slot.load(Ordering::Relaxed)
    }

    fn held(&self) -> &[*const Domain] {
        let n = self.n_held.load(Ordering::Relaxed);
        match n {
            0 => &[],
            // SAFETY: the thread's own array, of which so many are in use; the callers change it only after
            // they have used the answer.
            _ => unsafe { std::slice::from_raw_parts(self.held.load(Ordering::Relaxed), n) },
        }
    }

    fn push(&self, domain: *const Domain) {
        let n = self.n_held.load(Ordering::Relaxed);
        // SAFETY: no domain is there twice, and there is room for all.
        unsafe { *self.held.load(Ordering::Relaxed).add(n) = domain };
        self.n_held.store(n + 1, Ordering::Relaxed);
    }

    #[inline(always)]
    fn remove(&self, domain: *const Domain) {
        let held = self.held();
        let Some(at) = held.iter().rposition(|&d| d == domain) else {
            fatal!("a thread leaves a domain that it does not hold: this is an error of Ame");
        };
        let last = held.len() - 1;
        // SAFETY: both are in the array.
        unsafe {
            let array = self.held.load(Ordering::Relaxed);
            *array.add(at) = *array.add(last);
        }
        self.n_held.store(last, Ordering::Relaxed);
    }
}

/// How a thread came to hold a domain: `AME_DOMAIN_...` of `ame_rt.h`.
#[repr(C)]
pub enum Taken {
    /// It must wait.
    No,
    /// It was free.
    Free,
    /// The thread held it already.
    Held,
    /// It held it, and had lent it.
    Lent,
}

impl Domain {
    /// Makes the calling thread hold it, if that needs no waiting.
    fn try_take(&self) -> Taken {
        let me = number();
        let slot = this_thread().slot();
        if self.lock.lent_by(me, slot) {
            if self.claim(me, slot) {
                let place = self.place.load(Ordering::Relaxed);
                this_thread().place.store(place, Ordering::Relaxed);
                return Taken::Lent;
            }
        } else if self.lock.owner() == me {
            return Taken::Held;
        }
        if self.enter(me) {
            self.taken();
            return Taken::Free;
        }
        if !self.lock.try_acquire(me) {
            return Taken::No;
        }
        if !elision::is_empty(self, 100) {
            self.lock.release(me);
            return Taken::No;
        }
        self.taken();
        Taken::Free
    }

    /// Takes it without an atomic instruction, if it is biased to the thread. No transaction has come in since it was.
    fn enter(&self, me: u32) -> bool {
        self.lock.enter(me, this_thread().slot())
    }

    /// What the thread has lent, it has again, or has lost.
    fn claim(&self, me: u32, slot: u32) -> bool {
        let has = self.lock.claim(me, slot);
        match has {
            true => self.usage.goes_on(),
            false => self.lost(),
        }
        has
    }

    /// What the calling thread had lent is another's.
    #[cold]
    fn lost(&self) {
        this_thread().remove(self);
    }

    /// The calling thread has just become the owner.
    pub fn taken(&self) {
        self.usage.taken(number(), clock::cycles);
        add(&self.counts.entries, 1);
        let thread = this_thread();
        let me: *const Domain = self;
        // It is still there when the thread has lent it, lost it, and not noticed yet.
        if !thread.held().contains(&me) {
            thread.push(me);
        }
    }

    #[inline(always)]
    fn release(&self) {
        let thread = this_thread();
        thread.remove(self);
        let mut slot = None;
        if self.usage.is_one_thread_s()
            && thread.biased.load(Ordering::Relaxed) != NO_WORD
            && elision::may_hold_back(self)
        {
            self.usage.biased(clock::cycles());
            slot = Some(thread.slot());
        }
        self.lock.release_or_keep(number(), slot);
    }

    fn lend(&self, lender: *mut c_void, place: *mut c_void) {
        self.lender.store(lender, Ordering::Relaxed);
        self.place.store(place, Ordering::Relaxed);
        add(&self.loans, 1);
        self.lock.lend(number(), this_thread().slot());
    }

    pub fn gil(&self) -> Option<&'static Gil> {
        // SAFETY: null, or static data of an extension, which is never unloaded.
        unsafe { self.gil.load(Ordering::Acquire).as_ref() }
    }

    pub fn name(&self) -> &CStr {
        &self.name
    }

    /// Times that the lock was taken.
    pub fn entries(&self) -> u64 {
        self.counts.entries.load(Ordering::Relaxed)
    }

    /// Entries that were transactions to their end.
    pub fn elided(&self) -> u64 {
        let mut sum = self.sharing.elided.load(Ordering::Relaxed);
        crate::thread::for_each(|thread| sum += thread.elision.elided_in(self));
        sum
    }

    /// The child of a fork has one thread.
    pub fn forget_others(&self) {
        DETACHED.store(0, Ordering::Relaxed);
        let thread = this_thread();
        self.lock
            .forget_others(thread.number.load(Ordering::Relaxed), thread.slot());
        let mine = thread.biased.load(Ordering::Relaxed) != NO_WORD;
        let slot = u64::from(mine) << thread.slot();
        SLOTS_IN_USE.store(slot, Ordering::Relaxed);
        self.sharing.worth.forget_others();
    }

    /// As the fields of `struct ame_domain_counts`.
    pub fn counts(&self) -> [u64; 4] {
        let counts = &self.counts;
        [
            &counts.entries,
            &counts.contended,
            &counts.ns_waiting,
            &counts.given_up,
        ]
        .map(|count| count.load(Ordering::Relaxed))
    }

    pub fn print(&self) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        if of(&self.counts.entries) != 0 {
            eprintln!(
                "ame: domain {}: {} entries, {} contended ({:.3} ms), {} given up",
                self.name.to_string_lossy(),
                of(&self.counts.entries),
                of(&self.counts.contended),
                of(&self.counts.ns_waiting) as f64 / 1e6,
                of(&self.counts.given_up),
            );
        }
        elision::print(self);
    }
}

/// By the owner of the lock: no other thread writes.
fn add(count: &AtomicU64, n: u64) {
    count.store(count.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}

/// # Safety
/// `name` is a C string.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_open(name: *const c_char) -> *const Domain {
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    let _hold = crate::signal::hold();
    let mut domains = all();
    if let Some(domain) = domains.iter().find(|d| d.name.as_c_str() == name) {
        return *domain;
    }
    if domains.len() == MAX_DOMAINS {
        return null();
    }
    let domain: &'static Domain = Box::leak(Box::new(Domain {
        lock: Lock::new(),
        number: domains.len() as u32 + 1,
        usage: Usage::new(),
        sharing: Sharing::default(),
        lender: AtomicPtr::new(null_mut()),
        place: AtomicPtr::new(null_mut()),
        loans: AtomicU64::new(0),
        counts: Counts::default(),
        name: name.to_owned(),
        gil: AtomicPtr::new(null_mut()),
    }));
    domains.push(domain);
    domain
}

/// # Safety
/// `domain` came from `ame_domain_open`; `gil` lives forever.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_set_gil(domain: *const Domain, gil: *const Gil) {
    // SAFETY: the caller's promise.
    unsafe { &*domain }
        .gil
        .store(gil.cast_mut(), Ordering::Release);
}

/// Threads that run code of some domain without the GIL. Changed by who has the GIL.
static DETACHED: AtomicU32 = AtomicU32::new(0);

/// Adds to their number, and returns it.
#[no_mangle]
pub extern "C" fn ame_domain_detached(change: i32) -> u32 {
    let number = DETACHED.load(Ordering::Relaxed).wrapping_add_signed(change);
    DETACHED.store(number, Ordering::Relaxed);
    number
}

/// # Safety
/// `domain` came from `ame_domain_open`.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_name(domain: *const Domain) -> *const c_char {
    // SAFETY: the caller's promise; domains live forever.
    unsafe { (*domain).name.as_ptr() }
}

/// # Safety
/// As above; `out` is valid.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_stats(domain: *const Domain, out: *mut Stats) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*domain).name.as_c_str() == c"main" {
            ame_total_stats(out);
        } else {
            out.write(Stats::default());
        }
    }
}

/// The first domain after NULL, the next one after any other; NULL after the last.
///
/// # Safety
/// `domain` came from `ame_domain_open` or is NULL.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_next(domain: *const Domain) -> *const Domain {
    let _hold = crate::signal::hold();
    let domains = all();
    let at = match domains.iter().position(|d| std::ptr::eq(*d, domain)) {
        Some(at) => at + 1,
        None => 0,
    };
    domains.get(at).map_or(null(), |d| *d as *const Domain)
}

/// # Safety
/// `domain` came from `ame_domain_open`, `out` is valid.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_counts(domain: *const Domain, out: *mut Counts) {
    // SAFETY: the caller's promise.
    unsafe {
        let counts = &(*domain).counts;
        let copy = |count: &AtomicU64| AtomicU64::new(count.load(Ordering::Relaxed));
        out.write(Counts {
            entries: copy(&counts.entries),
            contended: copy(&counts.contended),
            ns_waiting: copy(&counts.ns_waiting),
            given_up: copy(&counts.given_up),
        });
    }
}

/// Makes the thread hold the domain, if that needs no waiting.
///
/// # Safety
/// `domain` came from `ame_domain_open`.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_try_acquire(domain: *const Domain) -> Taken {
    // SAFETY: the caller's promise.
    unsafe { &*domain }.try_take()
}

/// Whether a waiter may take a domain over: of its lender, where that was in its program then, how many nanoseconds
/// the waiter has waited, and for how many it has seen this loan.
type May = unsafe extern "C" fn(*mut c_void, *mut c_void, u64, u64) -> c_int;

/// Gives up all that the thread holds, and waits for the domain with nothing.
///
/// # Safety
/// `domain` came from `ame_domain_open`; `may` can be asked about any lender.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_acquire(domain: *const Domain, may: May) {
    /// As PyMutex has.
    const PATIENCE_NS: u64 = 1_000_000;
    ame_domain_release_all();
    // SAFETY: the caller's promise.
    let domain = unsafe { &*domain };
    let me = number();
    if domain.enter(me) {
        domain.taken();
        return;
    }
    if domain.lock.try_acquire(me) {
        elision::await_empty(domain);
        domain.taken();
        return;
    }
    let start = clock::now();
    let waited = || clock::now() - start;
    // Number of the loan, and how long the thread had waited when it saw it first.
    let (mut loan, mut since) = (0, 0);
    domain.lock.acquire(
        me,
        || waited() > PATIENCE_NS,
        || {
            let lender = domain.lender.load(Ordering::Relaxed);
            let place = domain.place.load(Ordering::Relaxed);
            let current = domain.loans.load(Ordering::Relaxed);
            let waited = waited();
            if loan != current {
                (loan, since) = (current, waited);
            }
            // SAFETY: the lender waits while it is looked at.
            let may = unsafe { may(lender, place, waited, waited - since) } != 0;
            if may {
                add(&domain.counts.given_up, 1);
            }
            may
        },
    );
    elision::await_empty(domain);
    domain.taken();
    add(&domain.counts.contended, 1);
    add(&domain.counts.ns_waiting, waited());
}

/// # Safety
/// `domain` came from `ame_domain_open`.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_is_held(domain: *const Domain) -> c_int {
    // SAFETY: the caller's promise.
    (!unsafe { &*domain }.lock.is_free()).into()
}

/// Waits until nobody holds the domain, for a while, and takes nothing.
///
/// # Safety
/// `domain` came from `ame_domain_open`.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_await_free(domain: *const Domain) {
    const LOOKS: u32 = 400;
    const LOOK_AGAIN: Duration = Duration::from_micros(50);
    // SAFETY: the caller's promise.
    let lock = unsafe { &(*domain).lock };
    for _ in 0..LOOKS {
        if lock.is_free() {
            return;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// # Safety
/// `domain` came from `ame_domain_open`; the thread holds it, and has not lent it.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_release(domain: *const Domain) {
    // SAFETY: the caller's promise.
    unsafe { &*domain }.release();
}

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_leave_without_bias(domain: *const Domain) {
    // SAFETY: the caller's promise.
    unsafe { (*domain).lock.leave_without_bias(number()) };
}

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_enter_without_bias(domain: *const Domain) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { (*domain).lock.enter_without_bias(number()) }.into()
}

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_lend_without_bias(domain: *const Domain) {
    // SAFETY: the caller's promise.
    unsafe { (*domain).lock.lend_without_bias(number()) };
}

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_claim_without_bias(domain: *const Domain) -> c_int {
    // SAFETY: the caller's promise.
    let domain = unsafe { &*domain };
    let has = domain.lock.claim_without_bias(number());
    if !has {
        domain.lost();
    }
    has.into()
}

/// Gives up all that the thread holds.
#[no_mangle]
pub extern "C" fn ame_domain_release_all() {
    let thread = this_thread();
    while let Some(&domain) = thread.held().last() {
        // SAFETY: domains live forever.
        let domain = unsafe { &*domain };
        let (me, slot) = (number(), thread.slot());
        if domain.lock.lent_by(me, slot) {
            if !domain.claim(me, slot) {
                continue;
            }
        } else if domain.lock.owner() != me {
            thread.remove(domain);
            continue;
        }
        add(&domain.counts.given_up, 1);
        domain.release();
    }
}

/// See `ame_rt.h`.
#[no_mangle]
pub extern "C" fn ame_domain_is_blocked(thread: u64) -> c_int {
    match u32::try_from(thread).map_or(Wait::Unknown, syscall::of_thread) {
        Wait::Call => 1,
        Wait::None | Wait::Turn | Wait::Unknown => 0,
    }
}

/// Lends all that the thread holds.
#[no_mangle]
pub extern "C" fn ame_domain_lend_all(lender: *mut c_void, place: *mut c_void) {
    let me = number();
    for &domain in this_thread().held() {
        // SAFETY: domains live forever.
        let domain = unsafe { &*domain };
        // What was lent further out has been left for longer.
        if domain.lock.has(me, this_thread().slot()) {
            domain.lend(lender, place);
        }
    }
}

/// # Safety
/// `domain` came from `ame_domain_open`; the thread holds it, and has not lent it.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_lend(
    domain: *const Domain,
    lender: *mut c_void,
    place: *mut c_void,
) {
    // SAFETY: the caller's promise.
    unsafe { &*domain }.lend(lender, place);
}

/// File of the shared object that an address belongs to.
fn object_of(address: *const c_void) -> Option<PathBuf> {
    // SAFETY: plain data, filled in by a query that accepts any address.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(address, &mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        let name = CStr::from_ptr(info.dli_fname);
        Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
    }
}

/// `.../BTrees/_OOBTree.cpython-313t-x86_64-linux-gnu.so` is `BTrees._OOBTree`.
fn module_name(object: &Path) -> Vec<u8> {
    let file = object.file_name().unwrap_or_default().as_bytes();
    let mut name = file
        .split(|&byte| byte == b'.')
        .next()
        .unwrap_or(file)
        .to_vec();
    let mut folder = object.parent();
    while let Some(package) = folder.filter(|f| f.join("__init__.py").exists()) {
        let word = package.file_name().unwrap_or_default().as_bytes();
        name = [word, b".", &name].concat();
        folder = package.parent();
    }
    name
}

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_of_module(address: *const c_void) -> *const Domain {
    let object = object_of(address).unwrap_or_default();
    let name = CString::new(module_name(&object)).unwrap_or_default();
    // SAFETY: a C string.
    unsafe { ame_domain_open(name.as_ptr()) }
}

/// Where the code of extensions is: from, to, number of the domain.
static CODE: Mutex<Vec<(usize, usize, u32)>> = Mutex::new(Vec::new());

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_add_code(
    domain: *const Domain,
    start: *const c_void,
    end: *const c_void,
) {
    // SAFETY: the caller's promise.
    let number = unsafe { (*domain).number };
    let _hold = crate::signal::hold();
    let mut code = CODE.lock().unwrap_or_else(|e| e.into_inner());
    code.push((start as usize, end as usize, number));
}

/// A domain's number; 0 for code that has none.
const LIBC: u64 = 0xffff;
const _: () = assert!((MAX_DOMAINS as u64) < LIBC);

fn whose(function: *const c_void) -> u64 {
    // Not held below: constructors add code under the dynamic linker's lock, which `object_of` takes.
    let number = {
        let code = CODE.lock().unwrap_or_else(|e| e.into_inner());
        let address = function as usize;
        let found = code.iter().find(|c| (c.0..c.1).contains(&address));
        found.map(|c| c.2)
    };
    if let Some(number) = number {
        return number.into();
    }
    let object = object_of(function).unwrap_or_default();
    let file = object.file_name().unwrap_or_default().as_bytes();
    match [&b"libc.so"[..], b"libm.so", b"libpthread.so", b"ld-linux"]
        .iter()
        .any(|name| file.starts_with(name))
    {
        true => LIBC,
        false => 0,
    }
}

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_stays_in(
    domain: *const Domain,
    function: *const c_void,
) -> c_int {
    /// Answers by address, which has 48 bits, in the bits above; objects are hardly ever unloaded, and the C library never.
    static KNOWN: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];
    let address = function as u64;
    let known = &KNOWN[(address >> 4) as usize % KNOWN.len()];
    let mut found = known.load(Ordering::Relaxed);
    if found >> 16 != address {
        let _hold = crate::signal::hold();
        found = address << 16 | whose(function);
        known.store(found, Ordering::Relaxed);
    }
    let whose = found & 0xffff;
    // SAFETY: the caller's promise.
    (whose == LIBC || whose == u64::from(unsafe { (*domain).number })).into()
}

// As in `ame_rt.h`.
const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(ThreadState, inside) == 0 && offset_of!(ThreadState, kept) == 8);
    assert!(offset_of!(ThreadState, n_kept) == 16 && offset_of!(ThreadState, place) == 24);
    assert!(offset_of!(ThreadState, entries) == 40 && offset_of!(ThreadState, spares) == 44);
    assert!(offset_of!(ThreadState, detached) == 48 && offset_of!(ThreadState, held) == 64);
    assert!(offset_of!(ThreadState, n_held) == 72 && offset_of!(ThreadState, biased) == 80);
    assert!(offset_of!(ThreadState, slot) == 84 && SLOTS == 64);
    assert!(offset_of!(Domain, lock) == 0 && offset_of!(Domain, counts) == 16 + 4 * SLOTS);
    assert!(offset_of!(Counts, entries) == 0 && size_of::<Counts>() == 32);
    assert!(
        offset_of!(Domain, lender) == 48 + 4 * SLOTS && offset_of!(Domain, place) == 56 + 4 * SLOTS
    );
    assert!(offset_of!(Domain, loans) == 64 + 4 * SLOTS);
};

#[cfg(test)]
mod tests {
    use super::{module_name, Usage};

    #[test]
    fn a_bias_that_was_taken_away_too_soon_comes_later() {
        let usage = Usage::new();
        let now = 1;
        let alone_for = |n: u64| {
            (0..n).any(|_| {
                usage.taken(1, || now);
                let biased = usage.is_one_thread_s();
                if biased {
                    usage.biased(now);
                }
                biased
            })
        };
        // Who comes first has none.
        assert!(alone_for(1002));
        usage.taken(2, || now + 1000);
        assert!(!alone_for(7000));
        usage.taken(2, || now);
        assert!(alone_for(8002));
        usage.taken(2, || now + 2 * Usage::LONG);
        assert!(alone_for(2002), "one that lasted");
    }

    #[test]
    fn calls_that_leave_count_as_use() {
        let usage = Usage::new();
        usage.taken(1, || 1);
        (0..Usage::LEAST).for_each(|_| usage.goes_on());
        assert!(usage.is_one_thread_s());
        usage.taken(2, || 1);
        assert!(!usage.is_one_thread_s());
    }

    #[test]
    fn a_domain_is_named_after_the_module() {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("BTrees");
        std::fs::create_dir(&package).unwrap();
        std::fs::write(package.join("__init__.py"), "").unwrap();
        let object = package.join("_OOBTree.cpython-313t-x86_64-linux-gnu.so");
        assert_eq!(module_name(&object), b"BTrees._OOBTree");
        assert_eq!(module_name(&folder.path().join("lru.so")), b"lru");
    }
}
