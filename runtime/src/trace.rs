//! The binary trace of `AME_LOG=file`; format in `ame_abi::trace`.

use crate::config::config;
use crate::domain::{self, Domain};
use crate::elision;
use crate::host::{self, About};
use crate::protocol::Want;
use crate::tables::MAX_THREADS;
use crate::thread::Thread;
use crate::{clock, fatal};
use ame_abi::trace::{access, cause, kind, outcome, MAGIC};
use std::ffi::CStr;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

static ENABLED: AtomicBool = AtomicBool::new(false);
static FILE: Mutex<Option<BufWriter<File>>> = Mutex::new(None);

/// Length of a slice of the time line, in nanoseconds.
const SLICE: u64 = 10_000_000;

#[inline(always)]
pub fn enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

static RECORDING: AtomicBool = AtomicBool::new(false);

/// Whether all conflicts are recorded with both their sides: for a trace, or for the program itself.
#[inline(always)]
pub fn recording() -> bool {
    RECORDING.load(Ordering::Relaxed)
}

pub fn record(on: bool) {
    RECORDING.store(on, Ordering::Relaxed);
}

/// Opens the trace if `AME_LOG` asks for one.
pub fn init() {
    let Some(path) = &config().log else { return };
    let file = File::create(path)
        .unwrap_or_else(|e| fatal!("AME_LOG: cannot create {}: {e}", path.display()));
    *lock() = Some(BufWriter::with_capacity(1 << 16, file));
    if let Some(file) = &mut *lock() {
        write(file, &MAGIC);
    }
    let unix = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as u64);
    let command = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let mut process = Record::new(kind::PROCESS);
    process.u32(std::process::id()).u64(unix).bytes(&command);
    process.write();
    modules();
    to_file();
    ENABLED.store(true, Ordering::Release);
    record(true);
}

/// Records the executable mappings: at start, and when a module registers.
pub fn modules() {
    if lock().is_none() {
        return;
    }
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some(mode), Some(offset)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Some(path) = words.nth(2) else { continue };
        let hex = |s: &str| u64::from_str_radix(s, 16).unwrap_or(0);
        if let (true, Some((start, end))) = (mode.contains('x'), range.split_once('-')) {
            let mut module = Record::new(kind::MODULE);
            module
                .u64(hex(start))
                .u64(hex(end))
                .u64(hex(offset))
                .bytes(path.as_bytes());
            module.write();
        }
    }
}

/// Totals and the last slice of every thread; the file is complete afterwards.
pub fn close() {
    if !enabled() {
        return;
    }
    crate::thread::for_each(thread_end);
    let domains = domain::all().clone();
    for domain in domains {
        domain_end(domain);
    }
    ENABLED.store(false, Ordering::Release);
    if let Some(mut file) = lock().take() {
        if let Err(e) = file.flush() {
            eprintln!("ame: AME_LOG: the trace is incomplete: {e}");
        }
    }
}

/// What a domain's threads came to, if there were any.
fn domain_end(domain: &Domain) {
    let counts = [&domain.counts()[..], &elision::counts(domain)].concat();
    if counts.iter().all(|&n| n == 0) {
        return;
    }
    let mut record = Record::new(kind::DOMAIN);
    for n in counts {
        record.u64(n);
    }
    record.text(domain.name()).write();
    for reason in domain.sharing.reasons() {
        let [entry, why] = reason.texts();
        Record::new(kind::SERIALISED)
            .u64(reason.count)
            .text(domain.name())
            .text(entry)
            .text(why)
            .write();
    }
}

/// A forked child does not write to its parent's trace.
pub fn forget_in_child() {
    ENABLED.store(false, Ordering::Release);
    // Not dropped: that would flush the parent's buffer twice.
    std::mem::forget(lock().take());
}

pub type Locked = MutexGuard<'static, Option<BufWriter<File>>>;

pub fn lock() -> Locked {
    FILE.lock().unwrap_or_else(|e| e.into_inner())
}

/// Hands what is buffered to the kernel, so that a killed process leaves what came before.
fn to_file() {
    if let Some(file) = &mut *lock() {
        end_if_failed(file.flush());
    }
}

fn write(file: &mut BufWriter<File>, bytes: &[u8]) {
    end_if_failed(file.write_all(bytes));
}

fn end_if_failed(result: std::io::Result<()>) {
    if let Err(e) = result {
        // Once; a full disk must not stop the program.
        if ENABLED.swap(false, Ordering::Relaxed) {
            eprintln!("ame: AME_LOG: cannot write, tracing ends here: {e}");
        }
    }
}

struct Record {
    bytes: Vec<u8>,
}

impl Record {
    fn new(kind: u8) -> Self {
        Record {
            bytes: vec![kind, 0, 0, 0],
        }
    }
    fn bytes(&mut self, more: &[u8]) -> &mut Self {
        let room = u16::MAX as usize + 4 - self.bytes.len();
        self.bytes.extend_from_slice(&more[..more.len().min(room)]);
        self
    }
    fn u8(&mut self, n: u8) -> &mut Self {
        self.bytes(&[n])
    }
    fn u16(&mut self, n: u16) -> &mut Self {
        self.bytes(&n.to_le_bytes())
    }
    fn u32(&mut self, n: u32) -> &mut Self {
        self.bytes(&n.to_le_bytes())
    }
    fn u64(&mut self, n: u64) -> &mut Self {
        self.bytes(&n.to_le_bytes())
    }
    fn text(&mut self, text: &CStr) -> &mut Self {
        self.bytes(text.to_bytes_with_nul())
    }
    fn write(&mut self) {
        let length = (self.bytes.len() - 4) as u16;
        self.bytes[2..4].copy_from_slice(&length.to_le_bytes());
        if let Some(file) = &mut *lock() {
            write(file, &self.bytes);
        }
    }
}

/// One conflict of the calling thread. `how`: barrier of the other side, outcome, cycles lost.
pub fn conflict(slot: u32, other: u32, want: &Want, how: (u64, u8, u64), about: About) {
    let (other_pc, outcome, lost) = how;
    if host::known() {
        host::conflict(about, lost);
    }
    if !enabled() {
        return;
    }
    Record::new(kind::CONFLICT)
        .u64(clock::now())
        .u16(slot as u16)
        .u16(other as u16)
        .u8(want.access)
        .u8(outcome)
        .u64(want.pc)
        .u64(other_pc)
        .u64(want.address & !15)
        .u64(clock::nanoseconds(lost))
        .u32(about.site)
        .u32(about.other_site)
        .u32(about.object)
        .write();
}

/// The calling thread has waited for others outside of transactions.
pub fn waited(slot: u32, about: About, lost: u64) {
    let want = Want {
        access: about.access,
        address: 0,
        pc: 0,
    };
    conflict(slot, slot, &want, (0, outcome::WAITED, lost), about);
    if enabled() {
        let waiting = &slices(slot).totals.waiting_ns;
        waiting.fetch_add(clock::nanoseconds(lost), Ordering::Relaxed);
    }
}

/// A rollback that has taken `lost` cycles.
pub fn aborted(thread: &mut Thread, why: u8, lost: u64) {
    let wound = match why {
        cause::WOUNDED => slices(thread.me.slot).wound.get(thread.me.since),
        _ => None,
    };
    if host::known() && why != cause::CHAOS {
        host::rolled_back(wound, thread.abort_site, lost);
    }
    if !enabled() {
        return;
    }
    let lost = clock::nanoseconds(lost);
    let wound = wound.unwrap_or_default();
    Record::new(kind::ABORT)
        .u64(clock::now())
        .u16(thread.me.slot as u16)
        .u8(why)
        .u64(thread.abort_pc)
        .u64(lost)
        .u32(thread.abort_site)
        .u32(wound.site)
        .u32(wound.other_site)
        .u32(wound.object)
        .write();
    let slices = &slices(thread.me.slot).totals;
    slices.aborts.fetch_add(1, Ordering::Relaxed);
    slices.aborted_ns.fetch_add(lost, Ordering::Relaxed);
    end_of_attempt(thread);
}

pub fn site(number: u32, site: &host::Site) {
    Record::new(kind::SITE)
        .u32(number)
        .u32(site.line)
        .u32(site.caller)
        .bytes(site.file.to_bytes_with_nul())
        .bytes(site.function.to_bytes_with_nul())
        .write();
}

pub fn object(number: u32, texts: &host::Object) {
    let mut record = Record::new(kind::OBJECT);
    record.u32(number);
    for text in texts {
        record.bytes(text.to_bytes_with_nul());
    }
    record.write();
}

#[cold]
#[inline(never)]
pub fn committed(thread: &mut Thread) {
    let took = clock::cycles().saturating_sub(thread.started + thread.waited);
    let slices = &slices(thread.me.slot).totals;
    slices.commits.fetch_add(1, Ordering::Relaxed);
    slices
        .committed_ns
        .fetch_add(clock::nanoseconds(took), Ordering::Relaxed);
    end_of_attempt(thread);
}

fn end_of_attempt(thread: &mut Thread) {
    let s = slices(thread.me.slot);
    let waited = std::mem::take(&mut thread.waited);
    s.totals
        .waiting_ns
        .fetch_add(clock::nanoseconds(waited), Ordering::Relaxed);
    let now = clock::now();
    let start = s.start.load(Ordering::Relaxed);
    if now - start >= SLICE {
        s.flush(thread.me.slot, now);
        to_file();
    }
}

pub fn irrevocable(thread: &Thread, pc: u64, what: u8) {
    if !recording() && !host::known() {
        return;
    }
    let reason = Reason {
        pc,
        site: host::site(),
        object: host::object(0),
    };
    slices(thread.me.slot).irrevocable.set(reason);
    if enabled() {
        Record::new(kind::IRREVOCABLE)
            .u64(clock::now())
            .u16(thread.me.slot as u16)
            .u64(pc)
            .u8(what)
            .u32(reason.site)
            .u32(reason.object)
            .write();
    }
}

pub fn thread_end(thread: &Thread) {
    if !enabled() {
        return;
    }
    let slot = thread.me.slot;
    let s = slices(slot);
    s.flush(slot, clock::now());
    let ended = &s.written;
    let mut record = Record::new(kind::THREAD_END);
    record.u64(clock::now()).u16(slot as u16);
    for n in ended.all() {
        // Taken: the next thread in this slot starts from zero.
        record.u64(n.swap(0, Ordering::Relaxed));
    }
    record.write();
}

#[derive(Default)]
struct Totals {
    commits: AtomicU64,
    aborts: AtomicU64,
    committed_ns: AtomicU64,
    aborted_ns: AtomicU64,
    waiting_ns: AtomicU64,
}

impl Totals {
    fn all(&self) -> [&AtomicU64; 5] {
        [
            &self.commits,
            &self.aborts,
            &self.committed_ns,
            &self.aborted_ns,
            &self.waiting_ns,
        ]
    }
}

/// Why a thread's latest irrevocable transaction is one. Written by that thread, read by those who
/// wait for it.
#[derive(Clone, Copy, Default)]
pub struct Reason {
    pub pc: u64,
    pub site: u32,
    pub object: u32,
}

#[derive(Default)]
struct LatestReason {
    pc: AtomicU64,
    site: AtomicU32,
    object: AtomicU32,
}

impl LatestReason {
    fn set(&self, reason: Reason) {
        self.pc.store(reason.pc, Ordering::Relaxed);
        self.site.store(reason.site, Ordering::Relaxed);
        self.object.store(reason.object, Ordering::Relaxed);
    }
    fn get(&self) -> Reason {
        Reason {
            pc: self.pc.load(Ordering::Relaxed),
            site: self.site.load(Ordering::Relaxed),
            object: self.object.load(Ordering::Relaxed),
        }
    }
}

/// The conflict that a thread was about to be wounded in last, as the wounder sees it: what a rollback
/// was for.
#[derive(Default)]
struct Wound {
    /// Version of the wounded transaction, and access.
    of: AtomicU32,
    site: AtomicU32,
    other_site: AtomicU32,
    object: AtomicU32,
}

impl Wound {
    fn set(&self, ver: u16, about: About) {
        self.site.store(about.site, Ordering::Relaxed);
        self.other_site.store(about.other_site, Ordering::Relaxed);
        self.object.store(about.object, Ordering::Relaxed);
        // Release: pairs with the load, so that who finds it finds the rest.
        let of = u32::from(ver) << 8 | u32::from(about.access);
        self.of.store(of, Ordering::Release);
    }
    fn get(&self, ver: u16) -> Option<About> {
        let of = self.of.load(Ordering::Acquire);
        (of >> 8 == u32::from(ver)).then(|| About {
            access: of as u8,
            site: self.site.load(Ordering::Relaxed),
            other_site: self.other_site.load(Ordering::Relaxed),
            object: self.object.load(Ordering::Relaxed),
        })
    }
}

/// Direct-mapped memory of a thread's latest accesses, so that the other side of a conflict has a
/// source line: granule, barrier, place in the host's program.
const ACCESSES: usize = 4096;
type Access = [AtomicU64; 3];

struct Slices {
    /// Start of the current slice, in nanoseconds.
    start: AtomicU64,
    totals: Totals,
    /// What earlier slices added up to.
    written: Totals,
    /// Made when the first one is noted.
    accesses: OnceLock<Box<[Access]>>,
    irrevocable: LatestReason,
    wound: Wound,
}

impl Slices {
    fn flush(&self, slot: u32, now: u64) {
        let start = self.start.swap(now, Ordering::Relaxed);
        let taken = self.totals.all().map(|n| n.swap(0, Ordering::Relaxed));
        for (sum, n) in self.written.all().into_iter().zip(taken) {
            sum.fetch_add(n, Ordering::Relaxed);
        }
        if taken == [0; 5] {
            return;
        }
        let [commits, aborts, committed, aborted, waiting] = taken;
        Record::new(kind::SLICE)
            .u64(start)
            .u64(now - start)
            .u16(slot as u16)
            .u32(commits as u32)
            .u32(aborts as u32)
            .u64(committed)
            .u64(aborted)
            .u64(waiting)
            .write();
    }
}

static SLICES: [AtomicPtr<Slices>; MAX_THREADS] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; MAX_THREADS];

fn slices(slot: u32) -> &'static Slices {
    let place = &SLICES[slot as usize];
    let existing = place.load(Ordering::Acquire);
    if !existing.is_null() {
        // SAFETY: stored below, never freed.
        return unsafe { &*existing };
    }
    let new = Box::into_raw(Box::new(Slices {
        start: AtomicU64::new(clock::now()),
        totals: Totals::default(),
        written: Totals::default(),
        accesses: OnceLock::new(),
        irrevocable: LatestReason::default(),
        wound: Wound::default(),
    }));
    match place.compare_exchange(
        std::ptr::null_mut(),
        new,
        Ordering::AcqRel,
        Ordering::Acquire,
    ) {
        // SAFETY: just made, never freed.
        Ok(_) => unsafe { &*new },
        Err(other) => {
            // SAFETY: `new` was not published; `other` is never freed.
            unsafe {
                drop(Box::from_raw(new));
                &*other
            }
        }
    }
}

fn access_of(accesses: &[Access], address: u64) -> &Access {
    &accesses[(address >> 4) as usize % ACCESSES]
}

/// Remembers which barrier of the calling thread acquired a granule.
#[cold]
pub fn note_access(slot: u32, address: usize, pc: u64) {
    let accesses = slices(slot)
        .accesses
        .get_or_init(|| (0..ACCESSES).map(|_| Access::default()).collect());
    let [granule, code, site] = access_of(accesses, address as u64);
    granule.store(address as u64 & !15, Ordering::Relaxed);
    code.store(pc, Ordering::Relaxed);
    site.store(host::site().into(), Ordering::Relaxed);
}

/// The barrier through which `other` acquired what is wanted, or that made it irrevocable, and the
/// place in the host's program; or 0.
pub fn last_access(other: u32, want: &Want) -> (u64, u32) {
    if want.access >= access::TOKEN {
        let reason = last_irrevocable(other);
        return (reason.pc, reason.site);
    }
    let Some(accesses) = slices(other).accesses.get() else {
        return (0, 0);
    };
    let [granule, code, site] = access_of(accesses, want.address);
    if granule.load(Ordering::Relaxed) == want.address & !15 {
        let site = site.load(Ordering::Relaxed) as u32;
        (code.load(Ordering::Relaxed), site)
    } else {
        (0, 0)
    }
}

pub fn last_irrevocable(slot: u32) -> Reason {
    slices(slot).irrevocable.get()
}

/// The calling thread is about to wound the transaction `ver` of `other`.
pub fn note_wound(other: u32, ver: u16, about: About) {
    slices(other).wound.set(ver, about);
}
