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
use crate::handoff::{Lock, MAX_NUMBER};
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

pub struct Domain {
    pub lock: Lock,
    /// From 1; as many as there are.
    pub number: u32,
    /// Transactions in it.
    pub sharing: Sharing,
    /// While it is lent: who, and where it was in the interpreter's program; for the glue.
    lender: AtomicPtr<c_void>,
    place: AtomicPtr<c_void>,
    /// How often it has been lent.
    loans: AtomicU64,
    counts: Counts,
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

/// Most programs have one; an interpreter has one per extension.
const MAX_DOMAINS: usize = 256;

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
};

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
    // Not there any more in a thread that ends: then its last entries leave nothing behind, or too little.
    let _ = AT_END.try_with(|_| ());
    let thread = this_thread();
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
        if self.lock.lent_by(me) {
            if self.claim(me) {
                let place = self.place.load(Ordering::Relaxed);
                this_thread().place.store(place, Ordering::Relaxed);
                return Taken::Lent;
            }
        } else if self.lock.owner() == me {
            return Taken::Held;
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

    /// What the thread has lent, it has again, or has lost.
    fn claim(&self, me: u32) -> bool {
        let has = self.lock.claim(me);
        if !has {
            this_thread().remove(self);
        }
        has
    }

    /// The calling thread has just become the owner.
    pub fn taken(&self) {
        add(&self.counts.entries, 1);
        let thread = this_thread();
        let me: *const Domain = self;
        // It is still there when the thread has lent it, lost it, and not noticed yet.
        if !thread.held().contains(&me) {
            thread.push(me);
        }
    }

    fn release(&self) {
        this_thread().remove(self);
        self.lock.release(number());
    }

    fn lend(&self, lender: *mut c_void, place: *mut c_void) {
        self.lender.store(lender, Ordering::Relaxed);
        self.place.store(place, Ordering::Relaxed);
        add(&self.loans, 1);
        self.lock.lend(number());
    }

    pub fn gil(&self) -> Option<&'static Gil> {
        // SAFETY: null, or static data of an extension, which is never unloaded.
        unsafe { self.gil.load(Ordering::Acquire).as_ref() }
    }

    pub fn name(&self) -> &CStr {
        &self.name
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
        self.lock
            .forget_others(this_thread().number.load(Ordering::Relaxed));
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
    if domain.lock.try_acquire(me) {
        elision::await_empty(domain);
        domain.taken();
        return;
    }
    let start = clock::now();
    let waited = || clock::now() - start;
    // Number of the loan, and since when it has been seen.
    let (mut loan, mut since) = (0, start);
    domain.lock.acquire(
        me,
        || waited() > PATIENCE_NS,
        || {
            let lender = domain.lender.load(Ordering::Relaxed);
            let place = domain.place.load(Ordering::Relaxed);
            let current = domain.loans.load(Ordering::Relaxed);
            let now = clock::now();
            if loan != current {
                (loan, since) = (current, now);
            }
            // SAFETY: the lender waits while it is looked at.
            let may = unsafe { may(lender, place, now - start, now - since) } != 0;
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

/// Gives up all that the thread holds.
#[no_mangle]
pub extern "C" fn ame_domain_release_all() {
    let thread = this_thread();
    while let Some(&domain) = thread.held().last() {
        // SAFETY: domains live forever.
        let domain = unsafe { &*domain };
        let me = number();
        if domain.lock.lent_by(me) {
            if !domain.claim(me) {
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
        if domain.lock.owner() == me && !domain.lock.lent_by(me) {
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

/// # Safety
/// See `ame_rt.h`.
#[no_mangle]
pub unsafe extern "C" fn ame_domain_is_libc(function: *const c_void) -> c_int {
    /// Answers by address; objects are hardly ever unloaded, and the C library never.
    static KNOWN: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];
    let address = function as u64;
    let known = &KNOWN[(address >> 4) as usize % KNOWN.len()];
    // The lowest bit of the entry is the answer, the others are the address without its own.
    let found = known.load(Ordering::Relaxed);
    if found >> 1 == address >> 1 {
        return (found & 1) as c_int;
    }
    let object = object_of(function).unwrap_or_default();
    let file = object.file_name().unwrap_or_default().as_bytes();
    let answer = [&b"libc.so"[..], b"libm.so", b"libpthread.so", b"ld-linux"]
        .iter()
        .any(|name| file.starts_with(name));
    known.store(address >> 1 << 1 | u64::from(answer), Ordering::Relaxed);
    answer.into()
}

// As in `ame_rt.h`.
const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(ThreadState, inside) == 0 && offset_of!(ThreadState, kept) == 8);
    assert!(offset_of!(ThreadState, n_kept) == 16 && offset_of!(ThreadState, place) == 24);
    assert!(offset_of!(ThreadState, entries) == 40 && offset_of!(ThreadState, spares) == 44);
    assert!(offset_of!(ThreadState, detached) == 48);
};

#[cfg(test)]
mod tests {
    use super::module_name;

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
