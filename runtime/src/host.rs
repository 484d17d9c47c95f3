//! Conflicts in terms of the program that an interpreter runs: where it is, and what lies at an address.
//!
//! The interpreter (host) answers both with numbers of texts, which are kept for good: there are as many as
//! places and kinds of objects that take part in conflicts. Conflicts are added up here by these
//! numbers, for a program that asks about itself, and go into the trace if there is one.
//!
//! Where no trace is written only a sample is asked about: whenever conflicts have cost a thread
//! [`SAMPLE`], that time is put down to the present one. So asking costs a small share of what is lost.

use crate::hook::Hook;
use crate::protocol::Want;
use crate::thread::Thread;
use crate::{clock, heap, signal, trace};
use ame_abi::trace::access;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{c_char, c_void, CStr, CString};
use std::sync::{Mutex, MutexGuard};

type Where = unsafe extern "C" fn() -> u32;
type What = unsafe extern "C" fn(*const c_void, *const c_void, usize) -> u32;

static SITE: Hook<Where> = Hook::new();
static OBJECT: Hook<What> = Hook::new();

/// Cycles of time lost that one sample stands for: some 50 microseconds, at least ten times what it costs.
const SAMPLE: u64 = 125_000;
/// Longest text, and most texts of a kind.
const LONGEST: usize = 1000;
const MOST: usize = 1 << 16;
/// Most entries of [`SUMS`].
const MOST_SUMS: usize = 4096;
/// `ame_conflict.access` where a transaction was rolled back and nobody knows for whom.
const ROLLED_BACK: u8 = 5;

pub fn set(site: Option<Where>, object: Option<What>) {
    SITE.set(site);
    OBJECT.set(object);
    crate::time_all();
}

/// Whether there is an interpreter to ask.
#[inline(always)]
pub fn known() -> bool {
    SITE.get().is_some()
}

/// Where the calling thread's program is, or 0.
pub fn site() -> u32 {
    // SAFETY: the host's promise (`ame_rt.h`): it only reads.
    SITE.get().map_or(0, |site| unsafe { site() })
}

/// What lies at `address`, or 0; of address 0, why the transaction becomes irrevocable.
pub fn object(address: u64) -> u32 {
    let Some(object) = OBJECT.get() else { return 0 };
    let (start, bytes) = heap::block_of(address as usize).unwrap_or((0, 0));
    // SAFETY: as above; the block is allocated.
    unsafe { object(address as *const c_void, start as *const c_void, bytes) }
}

/// Whether the bytes can be read.
pub fn readable(address: usize, n: usize) -> bool {
    let Some(last) = address.checked_add(n.max(1) - 1) else {
        return false;
    };
    (heap::in_arena(address) && heap::in_arena(last)) || (mapped(address) && mapped(last))
}

/// Asks the kernel, which reports what a load would die of.
fn mapped(address: usize) -> bool {
    let mut byte = 0u8;
    let local = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let remote = libc::iovec {
        iov_base: address as *mut c_void,
        iov_len: 1,
    };
    // SAFETY: writes one byte to `byte`.
    unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) == 1 }
}

// --- texts -----------------------------------------------------------------------------------------

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    pub file: CString,
    pub function: CString,
    pub line: u32,
    pub caller: u32,
}

/// Type, part, advice.
pub type Object = [CString; 3];

/// Numbers start with 1. What has one is never freed.
struct Table<T: 'static> {
    all: Vec<&'static T>,
    numbers: BTreeMap<&'static T, u32>,
}

impl<T: Ord> Table<T> {
    const fn new() -> Self {
        Table {
            all: Vec::new(),
            numbers: BTreeMap::new(),
        }
    }

    /// The number, and whether it is a new one.
    fn number(&mut self, item: T) -> (u32, bool) {
        if let Some(&number) = self.numbers.get(&item) {
            return (number, false);
        }
        if self.all.len() == MOST {
            return (0, false);
        }
        let item: &'static T = Box::leak(Box::new(item));
        self.all.push(item);
        let number = self.all.len() as u32;
        self.numbers.insert(item, number);
        (number, true)
    }

    fn get(&self, number: u32) -> Option<&'static T> {
        self.all.get((number as usize).checked_sub(1)?).copied()
    }
}

static SITES: Mutex<Table<Site>> = Mutex::new(Table::new());
static OBJECTS: Mutex<Table<Object>> = Mutex::new(Table::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// All that is locked here, and the trace.
pub struct Locks {
    _sites: MutexGuard<'static, Table<Site>>,
    _objects: MutexGuard<'static, Table<Object>>,
    _sums: MutexGuard<'static, Option<HashMap<About, Sum>>>,
    _trace: trace::Locked,
}

/// In the order in which they are taken elsewhere.
pub fn locks() -> Locks {
    Locks {
        _sites: lock(&SITES),
        _objects: lock(&OBJECTS),
        _sums: lock(&SUMS),
        _trace: trace::lock(),
    }
}

/// # Safety
/// `text` is a C string.
unsafe fn text(text: *const c_char) -> CString {
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(text) }.to_bytes();
    CString::new(&bytes[..bytes.len().min(LONGEST)]).unwrap_or_default()
}

/// # Safety
/// `file` and `function` are C strings.
pub unsafe fn intern_site(
    file: *const c_char,
    function: *const c_char,
    line: u32,
    caller: u32,
) -> u32 {
    let _hold = signal::hold();
    // SAFETY: the caller's promise.
    let (file, function) = unsafe { (text(file), text(function)) };
    let mut sites = lock(&SITES);
    let (number, new) = sites.number(Site {
        file,
        function,
        line,
        caller,
    });
    if new {
        // With the lock: nobody uses the number before it is in the trace.
        if let Some(site) = sites.get(number) {
            trace::site(number, site);
        }
    }
    number
}

/// # Safety
/// All three are C strings.
pub unsafe fn intern_object(texts: [*const c_char; 3]) -> u32 {
    let _hold = signal::hold();
    // SAFETY: the caller's promise.
    let texts = texts.map(|t| unsafe { text(t) });
    let mut objects = lock(&OBJECTS);
    let (number, new) = objects.number(texts);
    if new {
        if let Some(object) = objects.get(number) {
            trace::object(number, object);
        }
    }
    number
}

pub fn get_site(number: u32) -> Option<&'static Site> {
    let _hold = signal::hold();
    lock(&SITES).get(number)
}

pub fn get_object(number: u32) -> Option<&'static Object> {
    let _hold = signal::hold();
    lock(&OBJECTS).get(number)
}

// --- sums ------------------------------------------------------------------------------------------

/// What a conflict is about: its sums have the same.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct About {
    pub access: u8,
    pub site: u32,
    pub other_site: u32,
    pub object: u32,
}

#[derive(Default)]
struct Sum {
    count: u64,
    rolled_back: u64,
    lost: u64,
}

static SUMS: Mutex<Option<HashMap<About, Sum>>> = Mutex::new(None);

fn add(about: About, count: u64, rolled_back: u64, lost: u64) {
    let _hold = signal::hold();
    let mut sums = lock(&SUMS);
    let sums = sums.get_or_insert_default();
    if sums.len() >= MOST_SUMS && !sums.contains_key(&about) {
        // What has cost least makes room.
        let mut all: Vec<_> = sums.values().map(|sum| sum.lost).collect();
        let middle = all.len() / 2;
        let (_, &mut median, _) = all.select_nth_unstable(middle);
        sums.retain(|_, sum| sum.lost > median);
    }
    let sum = sums.entry(about).or_default();
    sum.count += count;
    sum.rolled_back += rolled_back;
    sum.lost += lost;
}

/// What a thread's conflicts have cost since one of them was last put down.
#[derive(Default)]
pub struct Unsampled {
    count: u64,
    lost: u64,
}

/// After a conflict of the calling thread that nobody has recorded.
pub fn sample(thread: &mut Thread, lost: u64, about: impl FnOnce() -> About) {
    thread.unsampled.count += 1;
    thread.unsampled.lost += lost;
    if thread.unsampled.lost < SAMPLE {
        return;
    }
    let Unsampled { count, lost } = std::mem::take(&mut thread.unsampled);
    add(about(), count, 0, lost);
}

/// `ame_host_waited`.
pub fn waited(thread: &mut Thread, object: u32, since: u64) {
    let _hold = signal::hold();
    let lost = clock::cycles().saturating_sub(since);
    thread.stats.waits.add(1);
    thread.stats.ns_waiting.add(lost);
    let about = || About {
        access: access::EXCLUSIVE,
        site: site(),
        other_site: 0,
        object,
    };
    if trace::recording() {
        trace::waited(thread.me.slot, about(), lost);
    } else {
        sample(thread, lost, about);
    }
}

/// The present conflict of the calling thread; the other side is known, or that of a wait for an
/// irrevocable transaction.
pub fn about(want: &Want, other: u32, other_site: u32) -> About {
    let (other_site, object) = if want.access >= access::TOKEN {
        let reason = trace::last_irrevocable(other);
        (reason.site, reason.object)
    } else {
        (other_site, object(want.address))
    };
    About {
        access: want.access,
        site: site(),
        other_site,
        object,
    }
}

/// A conflict that was recorded as a whole.
pub fn conflict(about: About, lost: u64) {
    add(about, 1, 0, lost);
}

/// A rollback at `site`, for the conflict if that is known.
pub fn rolled_back(conflict: Option<About>, site: u32, lost: u64) {
    let about = conflict.unwrap_or(About {
        access: ROLLED_BACK,
        site,
        ..About::default()
    });
    add(about, 0, 1, lost);
}

/// `struct ame_conflict`.
#[repr(C)]
pub struct Conflict {
    site: u32,
    other_site: u32,
    object: u32,
    access: u32,
    count: u64,
    rolled_back: u64,
    ns_lost: u64,
}

/// All sums, most time lost first.
pub fn conflicts() -> Vec<Conflict> {
    let _hold = signal::hold();
    let sums = lock(&SUMS);
    let mut all: Vec<_> = sums
        .iter()
        .flatten()
        .map(|(about, sum)| Conflict {
            site: about.site,
            other_site: about.other_site,
            object: about.object,
            access: about.access.into(),
            count: sum.count,
            rolled_back: sum.rolled_back,
            ns_lost: clock::nanoseconds(sum.lost),
        })
        .collect();
    all.sort_by_key(|c| std::cmp::Reverse((c.ns_lost, c.count, c.site)));
    all
}
