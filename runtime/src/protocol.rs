//! The lock protocol: strict two-phase locking with per-thread read marks and wound-wait.
//!
//! Ancestors: TLRW (Dice and Shavit, SPAA 2010), 2PLSF (Ramalhete et al., PPoPP 2023), the read
//! markers of stmgc-c7. A reader publishes its mark and then looks at the lock; a writer takes the
//! lock and then looks at the marks. Both publish with a sequentially consistent read-modify-write,
//! so that whoever comes second in that order sees the other. `tests/loom.rs` checks this file as
//! it is.
//!
//! Conflicts follow wound-wait (Rosenkrantz, Stearns, Lewis 1978): the older transaction dooms the
//! younger and waits until it has let go; the younger waits for the older.

#[cfg(not(loom))]
use crate::clock::cycles;
use crate::hook::Hook;
use crate::lease;
use crate::peer::*;
use crate::primitive::*;
use crate::tables::*;

/// A transaction as the protocol sees it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Me {
    pub slot: u32,
    /// Even; marks are `ver` (read) and `ver + 1` (write, private, fresh).
    pub ver: u16,
    /// Marks from this version on are live: the transaction's own, unless the thread keeps what earlier ones have
    /// acquired (`lease`).
    pub since: u16,
}

/// This transaction was wounded: roll back.
#[derive(Debug, PartialEq, Eq)]
pub struct Doomed;

/// What a conflict is about, for reports.
#[derive(Clone, Copy)]
pub struct Want {
    pub access: u8,
    /// The byte that is wanted, not its granule: a description may tell fields apart.
    pub address: u64,
    pub pc: u64,
}

impl Me {
    pub fn new(slot: u32, ver: u16) -> Me {
        let since = ver;
        Me { slot, ver, since }
    }

    #[inline(always)]
    pub fn lock_word(self) -> u16 {
        self.slot as u16 + 1
    }

    /// Whether the lock of `g` is the thread's.
    #[inline(always)]
    pub fn has_lock(self, g: u32) -> bool {
        lock(g).load(Ordering::Relaxed) == self.lock_word()
    }

    #[inline(always)]
    pub fn doomed(self) -> bool {
        status(peer(self.slot).state.load(Ordering::Acquire)) == DOOMED
    }
}

/// Acquires granule `g` for reading. Afterwards mark[g] is `ver` and stays live until the end of
/// the transaction.
#[inline(always)]
pub fn read(me: Me, g: u32, want: impl Fn() -> Want) -> Result<(), Doomed> {
    let mark = mark(me.slot, g);
    // SeqCst: pairs with the CAS in `lock_for_write`. Without the full fence both sides could
    // miss each other (store buffering).
    mark.swap(me.ver, Ordering::SeqCst);
    let holder = lock(g).load(Ordering::SeqCst);
    if holder == 0 {
        return Ok(());
    }
    read_contended(me, g, holder, want())
}

#[cold]
#[inline(never)]
fn read_contended(me: Me, g: u32, mut holder: u16, want: Want) -> Result<(), Doomed> {
    let mark = mark(me.slot, g);
    loop {
        // The data was not read: the mark may be taken back (invariant 2).
        mark.store(0, Ordering::Release);
        // The writer may be asleep until the mark is gone.
        wake_waiters(me);
        await_release(me, holder as u32 - 1, want, || {
            lock(g).load(Ordering::Acquire) == holder
        })?;
        mark.swap(me.ver, Ordering::SeqCst);
        holder = lock(g).load(Ordering::SeqCst);
        if holder == 0 {
            return Ok(());
        }
    }
}

/// The same without a fence, for a thread in unfenced mode. The pass emits this inline.
#[inline(always)]
pub fn read_unfenced(me: Me, g: u32, want: impl Fn() -> Want) -> Result<(), Doomed> {
    mark(me.slot, g).store(me.ver, Ordering::Relaxed);
    let holder = lock(g).load(Ordering::Acquire);
    if holder == 0 {
        return Ok(());
    }
    read_contended(me, g, holder, want())
}

/// From here on this thread marks reads without fences, and writers ask it for one ([`handshake`]).
/// Worth it for transactions that read much more than others write.
pub fn go_unfenced(me: Me) {
    peer(me.slot).unfenced.store(1, Ordering::SeqCst);
    // Pairs with the CAS in `lock_for_write`: a writer that still saw us fenced has its lock seen
    // by all our later reads.
    fence(Ordering::SeqCst);
}

/// Runs the fence that others have asked for and returns to fenced mode. True if there was one.
#[inline(always)]
pub fn answer_fence(me: Me) -> bool {
    let mine = peer(me.slot);
    let request = mine.fence_request.load(Ordering::Acquire);
    if request == mine.fence_answer.load(Ordering::Relaxed) {
        return false;
    }
    // All marks made so far are visible to whoever sees the answer, or sees us fenced again.
    fence(Ordering::SeqCst);
    // No inline read may follow that others take for a fenced one.
    #[cfg(not(loom))]
    crate::tls::tls().unfenced.store(0, Ordering::Relaxed);
    mine.unfenced.store(0, Ordering::Release);
    mine.fence_answer.store(request, Ordering::Release);
    true
}

/// Whether somebody waits for us to run a fence.
pub fn fence_asked(me: Me) -> bool {
    let mine = peer(me.slot);
    mine.fence_request.load(Ordering::SeqCst) != mine.fence_answer.load(Ordering::Relaxed)
}

/// With lock[g] held: makes sure that an unfenced thread's earlier marks are visible to us, and
/// our lock to its later reads.
#[cold]
#[inline(never)]
fn handshake(me: Me, slot: u32) {
    let other = peer(slot);
    let state = other.state.load(Ordering::SeqCst);
    if status(state) == IDLE {
        // Its next begin has a full fence (`start`).
        return;
    }
    let request = other.fence_request.fetch_add(1, Ordering::SeqCst) + 1;
    #[cfg(not(loom))]
    other.os.poke();
    // Patient while the other surely runs: a thread in the system call below cannot answer others.
    let patience = HANDSHAKE_SPINS.saturating_mul(spins() / SPINS);
    for _ in 0..patience {
        let answer = other.fence_answer.load(Ordering::Acquire);
        let now = other.state.load(Ordering::Acquire);
        // Another status alone proves nothing: a third thread may have wounded it.
        if (answer.wrapping_sub(request) as i32) >= 0
            || version(now) != version(state)
            || status(now) == IDLE
            // Asleep: it ran a full fence when it said so, and will run another when it wakes.
            || other.waiting_for.load(Ordering::SeqCst) != 0
        {
            return;
        }
        // Two writers may ask each other.
        answer_fence(me);
        spin();
    }
    // It is not running, or in a long stretch without barriers.
    heavy_fence();
}

/// Takes lock[g] if it is free. The caller must record it for `unlock` and then call
/// [`expel_readers`], or find [`alone`], before it writes.
#[inline(always)]
pub fn try_lock(me: Me, g: u32) -> Result<(), u16> {
    // SeqCst: pairs with the swap in `read`, and with that in `lock_together`.
    lock(g)
        .compare_exchange(0, me.lock_word(), Ordering::SeqCst, Ordering::Acquire)
        .map(|_| ())?;
    if undisturbed(me, g) {
        return Ok(());
    }
    lock_disturbed(me, g)
}

/// After taking lock[g] with an atomic instruction: whether nobody locks the region by plain stores,
/// nor has overwritten ours by one. If it has, it is over with the region, or we see it there.
#[inline(always)]
fn undisturbed(me: Me, g: u32) -> bool {
    region(g).load(Ordering::SeqCst) == 0 && lock(g).load(Ordering::Acquire) == me.lock_word()
}

#[cold]
#[inline(never)]
fn lock_disturbed(me: Me, g: u32) -> Result<(), u16> {
    loop {
        let mine = me.lock_word();
        let back = lock(g).compare_exchange(mine, 0, Ordering::SeqCst, Ordering::Relaxed);
        if back.is_ok() {
            wake_waiters(me);
        }
        let mut step = 0;
        while region(g).load(Ordering::SeqCst) != 0 {
            step += 1;
            if step < SPINS {
                spin();
            } else {
                give_way_to_owner();
            }
        }
        lock(g)
            .compare_exchange(0, mine, Ordering::SeqCst, Ordering::Acquire)
            .map(|_| ())?;
        if undisturbed(me, g) {
            return Ok(());
        }
    }
}

/// Takes those locks of some granules of one region that are free; returns which, as bits. Otherwise
/// as [`try_lock`]. One atomic instruction and one fence for all of them.
///
/// While it has the region, others that take a lock there by an atomic instruction give it back. One
/// that was taken before is seen here.
pub fn lock_together(me: Me, granules: &[u32]) -> u64 {
    debug_assert!(granules.len() <= 64);
    let Some(&first) = granules.first() else {
        return 0;
    };
    let taken =
        region(first).compare_exchange(0, me.lock_word(), Ordering::SeqCst, Ordering::Relaxed);
    if taken.is_err() {
        return 0;
    }
    let mut got = 0;
    for (i, &g) in granules.iter().enumerate() {
        if lock(g).load(Ordering::Acquire) == 0 {
            lock(g).store(me.lock_word(), Ordering::Relaxed);
            got |= 1 << i;
        }
    }
    region(first).store(0, Ordering::Release);
    // Pairs with the swap in `read`, as the atomic instruction in `try_lock` does.
    fence(Ordering::SeqCst);
    got
}

/// Takes lock[g], waiting for another writer; otherwise as [`try_lock`].
#[inline(always)]
pub fn lock_for_write(me: Me, g: u32, want: impl Fn() -> Want) -> Result<(), Doomed> {
    match try_lock(me, g) {
        Ok(()) => Ok(()),
        Err(holder) => lock_contended(me, g, holder, want()),
    }
}

#[cold]
#[inline(never)]
fn lock_contended(me: Me, g: u32, mut holder: u16, want: Want) -> Result<(), Doomed> {
    loop {
        debug_assert_ne!(holder, me.lock_word());
        await_release(me, holder as u32 - 1, want, || {
            lock(g).load(Ordering::Acquire) == holder
        })?;
        match try_lock(me, g) {
            Ok(()) => return Ok(()),
            Err(other) => holder = other,
        }
    }
}

/// Waits until no other transaction holds `g` for writing; takes nothing.
#[cold]
pub fn await_unlocked(me: Me, g: u32, want: Want) -> Result<(), Doomed> {
    let holder = lock(g).load(Ordering::Acquire);
    if holder == 0 || holder == me.lock_word() {
        return Ok(());
    }
    await_release(me, holder as u32 - 1, want, || {
        lock(g).load(Ordering::Acquire) == holder
    })
}

/// With lock[g] held: whether nobody else reads `g` and nobody needs a handshake to tell.
#[inline(always)]
pub fn alone(me: Me, g: u32) -> bool {
    (0..peer_count().load(Ordering::SeqCst)).all(|slot| {
        slot == me.slot || (peer(slot).unfenced.load(Ordering::SeqCst) == 0 && !reads(me, slot, g))
    })
}

/// [`alone`] on each of some granules, all of whose locks are held.
#[inline(always)]
pub fn alone_on_all(me: Me, granules: impl Iterator<Item = u32> + Clone) -> bool {
    (0..peer_count().load(Ordering::SeqCst))
        .filter(|&slot| slot != me.slot)
        .all(|slot| {
            peer(slot).unfenced.load(Ordering::SeqCst) == 0
                && granules.clone().all(|g| !reads(me, slot, g))
        })
}

/// With lock[g] held: waits until no other transaction holds `g` for reading.
#[inline(always)]
pub fn expel_readers(me: Me, g: u32, want: impl Fn() -> Want) -> Result<(), Doomed> {
    // Acquire: a thread that registered before its first `read` swap is seen, for that swap either
    // sees our lock or comes before our CAS.
    let n = peer_count().load(Ordering::SeqCst);
    for slot in 0..n {
        if slot == me.slot {
            continue;
        }
        // SeqCst: pairs with the fence in `go_unfenced`.
        if peer(slot).unfenced.load(Ordering::SeqCst) != 0 {
            handshake(me, slot);
        }
        if reads(me, slot, g) {
            expel_reader(me, g, slot, want())?;
        }
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn expel_reader(me: Me, g: u32, slot: u32, want: Want) -> Result<(), Doomed> {
    await_release(me, slot, want, || reads(me, slot, g))
}

/// Whether `slot` has a live mark on `g`.
#[inline(always)]
fn reads(me: Me, slot: u32, g: u32) -> bool {
    // The mark is loaded first: its transaction published its state and count of wraps before its
    // mark, so what is loaded afterwards belongs to that transaction or to a later one.
    let mark = mark(slot, g).load(Ordering::SeqCst);
    // Most marks are older than what was last seen of the thread, whose state, written all the
    // time, then need not be fetched.
    let wraps = peer(slot).wraps.load(Ordering::Acquire);
    let seen = seen(me.slot, slot).load(Ordering::Relaxed);
    if mark == 0 || (mark < seen as u16 && (seen >> 32) as u32 == wraps) {
        return false;
    }
    marks_live(me, slot, mark, wraps)
}

#[inline(never)]
fn marks_live(me: Me, slot: u32, mark: u16, wraps: u32) -> bool {
    let state = peer(slot).state.load(Ordering::Acquire);
    // If the version wrapped between the two loads, this is never consulted: the count has changed.
    seen(me.slot, slot).store(
        (wraps as u64) << 32 | version(state) as u64,
        Ordering::Relaxed,
    );
    mark >= version(state) && status(state) != IDLE
}

/// The same in a turn of this thread (`gate`): nobody else holds a lock or is about to take one.
#[inline(always)]
pub fn lock_in_turn(me: Me, g: u32) {
    debug_assert!(match lock(g).load(Ordering::Relaxed) {
        0 => true,
        // Of who keeps it, and loses it by this.
        holder => is_at_rest(peer(holder as u32 - 1).state.load(Ordering::Relaxed)),
    });
    lock(g).store(me.lock_word(), Ordering::Relaxed);
}

/// Gives lock[g] back. Release: whoever takes it next sees what was written.
#[inline(always)]
pub fn unlock(g: u32) {
    lock(g).store(0, Ordering::Release);
}

/// Before the first transaction of a thread. A thread that was alone begins its transactions
/// without a fence even in unfenced mode; after this it does not, or has visibly begun.
pub fn participate() {
    participants().fetch_add(1, Ordering::SeqCst);
    heavy_fence();
}

/// Before [`finish`] with a version that starts over: the slot's marks have been cleared.
pub fn wrap(me: Me) {
    peer(me.slot).wraps.fetch_add(1, Ordering::SeqCst);
}

/// Publishes the end of a transaction: its marks are dead from here on. Its locks must have been
/// given back before (a freed block may be locked by its next user at once).
#[inline(always)]
pub fn finish(me: Me, next_ver: u16) {
    peer(me.slot)
        .state
        .store(state_of(next_ver, IDLE), Ordering::Release);
    wake_waiters(me);
}

#[inline(always)]
pub fn wake_waiters(me: Me) {
    // Pairs with the heavy fence in `park`: either the waiter sees that we let go, or we see it.
    light_fence();
    if peer(me.slot).waiters.load(Ordering::Relaxed) != 0 {
        wake_all_waiting_for(me);
    }
}

#[cold]
#[inline(never)]
fn wake_all_waiting_for(me: Me) {
    for slot in 0..peer_count().load(Ordering::Acquire) {
        let other = peer(slot);
        if other.waiting_for.load(Ordering::Acquire) == me.slot + 1 {
            unpark(other);
        }
    }
}

fn unpark(other: &Peer) {
    other.park.fetch_add(1, Ordering::SeqCst);
    futex_wake(&other.park);
}

/// Dooms the transaction that `state` was read from; false if that is over or cannot be doomed.
pub fn wound(me: Me, slot: u32, state: u32) -> bool {
    let other = peer(slot);
    if status(state) != ACTIVE {
        return false;
    }
    let doomed = state_of(version(state), DOOMED);
    let won = other
        .state
        .compare_exchange(state, doomed, Ordering::SeqCst, Ordering::Acquire)
        .is_ok();
    if won {
        // A hint for `await_wounder`, which may miss it.
        let who = (me.since as u32) << 16 | (me.slot + 1);
        other.wounded_by.store(who, Ordering::Release);
        #[cfg(not(loom))]
        other.os.poke();
        // It may sleep while it waits for a third.
        if other.waiting_for.load(Ordering::SeqCst) != 0 {
            unpark(other);
        }
    }
    won
}

/// Spins that take about two microseconds.
#[cfg(not(loom))]
pub const SPINS: u32 = 100;
#[cfg(loom)]
pub const SPINS: u32 = 1;
/// Spins before a thread sleeps: a sleep and the wake-up cost tens of microseconds, but a thread
/// that has no processor to run on cannot let go.
fn spins() -> u32 {
    #[cfg(not(loom))]
    if active() <= processors() {
        return SPINS * 20;
    }
    SPINS
}

/// Threads that are in a transaction, as far as can be told without stopping them.
#[cfg(not(loom))]
fn active() -> u32 {
    let in_transaction = |&slot: &u32| !is_at_rest(peer(slot).state.load(Ordering::Relaxed));
    (0..peer_count().load(Ordering::Acquire))
        .filter(in_transaction)
        .count() as u32
}

/// Steps that a writer waits for an unfenced reader's answer: about a microsecond, as long as the
/// system call takes that replaces it.
#[cfg(not(loom))]
const HANDSHAKE_SPINS: u32 = 60;
#[cfg(loom)]
const HANDSHAKE_SPINS: u32 = u32::MAX;
/// Longest sleep before a waiter looks again by itself, in nanoseconds.
pub const PARK_NS: i64 = 5_000_000;

/// Called by a thread that finds that it has to wait for another transaction.
pub static WAIT_HOOK: Hook<extern "C" fn()> = Hook::new();

/// Asks others to commit, if the program has told us how. True if it has.
pub fn ask_for_commits() -> bool {
    let hook = WAIT_HOOK.get();
    if let Some(hook) = hook {
        hook();
    }
    hook.is_some()
}

/// Waits while `held()`: thread `other` holds what we want. Wounds it when we are older.
pub fn await_release(
    me: Me,
    other: u32,
    want: Want,
    held: impl Fn() -> bool,
) -> Result<(), Doomed> {
    #[cfg(not(loom))]
    let mut report = crate::report::Conflict::new(me, other, want);
    #[cfg(loom)]
    let _ = want;
    let mine = peer(me.slot);
    let mut step = 0;
    let spins = spins();
    let patience = Patience::with(other);
    let result = loop {
        // Read before `held`: if it is still held afterwards, this state is that of the holder, or
        // of an earlier transaction of that thread, for which the CAS in `wound` fails.
        let state = peer(other).state.load(Ordering::Acquire);
        if !held() {
            break Ok(());
        }
        if me.doomed() {
            break Err(Doomed);
        }
        answer_fence(me);
        if status(state) == KEPT {
            lease::revoke(other, state);
            spin();
            continue;
        }
        let older = mine.age.load(Ordering::Relaxed) < peer(other).age.load(Ordering::Acquire);
        if status(state) == ACTIVE && older && (patience.is_over() || is_stuck(other)) {
            #[cfg(not(loom))]
            report.wounds(version(state));
            if wound(me, other, state) {
                #[cfg(not(loom))]
                report.wounded();
            }
        }
        if step == 0 {
            set_stuck(me, true);
            peer(other).wanted.store(1, Ordering::Relaxed);
            ask_for_commits();
        }
        step += 1;
        if step < spins {
            spin();
            continue;
        }
        // What it waits for may take for ever (an inevitable transaction that reads from a pipe),
        // and handlers that wait for its own end would as well.
        #[cfg(not(loom))]
        if crate::signal::waiting() && status(mine.state.load(Ordering::Relaxed)) != INEVITABLE {
            break Err(Doomed);
        }
        // It may have kept what it had meanwhile.
        peer(other).wanted.store(1, Ordering::Relaxed);
        // Threads of an interpreter must not sleep while that counts them among the running ones.
        if mine.shared.load(Ordering::Relaxed) != 0 {
            break Err(Doomed);
        }
        park(me, other, &held);
    };
    if step != 0 {
        set_stuck(me, false);
    }
    #[cfg(not(loom))]
    report.end(&result);
    result
}

/// What the older transaction gives the younger to commit, before it throws its work away. Only where
/// it can ask for that: a transaction of an interpreter ends within an instruction or two then. But that may be a long
/// one, or the transaction, when it has many locks to give back.
#[cfg(not(loom))]
struct Patience {
    until: Option<u64>,
}

/// Patience in cycles of the time stamp counter, 2 to 4 in a nanosecond: a part of what would be lost.
#[cfg(not(loom))]
const SHARE: u64 = 4;
#[cfg(not(loom))]
const LEAST: u64 = 5_000_000;
#[cfg(not(loom))]
const MOST: u64 = 250_000_000;

#[cfg(not(loom))]
impl Patience {
    fn with(other: u32) -> Patience {
        let until = WAIT_HOOK.get().map(|_| {
            let now = cycles();
            let work = now.saturating_sub(peer(other).since.load(Ordering::Relaxed));
            now + (work / SHARE).clamp(LEAST, MOST)
        });
        Patience { until }
    }

    fn is_over(&self) -> bool {
        self.until.is_none_or(|until| cycles() >= until)
    }
}

#[cfg(loom)]
struct Patience;

#[cfg(loom)]
impl Patience {
    fn with(_: u32) -> Patience {
        Patience
    }

    fn is_over(&self) -> bool {
        true
    }
}

/// Whether a thread waits for another, and so will not commit. A hint: seen late, it costs the
/// asker its patience.
fn is_stuck(slot: u32) -> bool {
    peer(slot).stuck.load(Ordering::Relaxed) != 0
}

fn set_stuck(me: Me, stuck: bool) {
    peer(me.slot).stuck.store(stuck.into(), Ordering::Relaxed);
}

/// Sleeps until `other` ends a transaction, or we are doomed, or a while has passed.
#[cold]
pub fn park(me: Me, other: u32, held: &impl Fn() -> bool) {
    let mine = peer(me.slot);
    let ticket = mine.park.load(Ordering::SeqCst);
    mine.waiting_for.store(other + 1, Ordering::SeqCst);
    peer(other).waiters.fetch_add(1, Ordering::SeqCst);
    // Pairs with the light fence in `finish`.
    heavy_fence();
    if held() && !me.doomed() {
        futex_wait(&mine.park, ticket, PARK_NS);
    }
    peer(other).waiters.fetch_sub(1, Ordering::SeqCst);
    mine.waiting_for.store(0, Ordering::SeqCst);
}

/// After a rollback: lets the transaction that wounded us end first. Started again at once, we
/// would meet it again, having done the same work beside it. Holds nothing, so nobody waits for us;
/// gives up after a while, because it only saves work.
pub fn await_wounder(me: Me) {
    let who = peer(me.slot).wounded_by.swap(0, Ordering::Acquire);
    if who == 0 {
        return;
    }
    let (slot, ver) = ((who & 0xffff) - 1, (who >> 16) as u16);
    let runs = || {
        let state = peer(slot).state.load(Ordering::Acquire);
        version(state) == ver && !is_at_rest(state)
    };
    for _ in 0..spins() {
        if !runs() {
            return;
        }
        answer_fence(me);
        spin();
    }
    for _ in 0..3 {
        if runs() {
            park(me, slot, &runs);
        }
    }
}

/// Makes the transaction irrevocable: takes the token, becomes the oldest, cannot be wounded.
pub fn become_inevitable(me: Me, want: Want) -> Result<(), Doomed> {
    let mine = peer(me.slot);
    let word = me.slot + 1;
    while let Err(holder) = token().compare_exchange(0, word, Ordering::SeqCst, Ordering::Acquire) {
        await_release(me, holder - 1, want, || {
            token().load(Ordering::Acquire) == holder
        })?;
    }
    let (from, to) = (state_of(me.since, ACTIVE), state_of(me.since, INEVITABLE));
    if mine
        .state
        .compare_exchange(from, to, Ordering::SeqCst, Ordering::Acquire)
        .is_err()
    {
        // Wounded before: still revocable, so the wound stands.
        token().store(0, Ordering::Release);
        wake_waiters(me);
        return Err(Doomed);
    }
    // After the CAS: a wounder that has read the old age fails at its own CAS.
    mine.age.store(OLDEST, Ordering::Release);
    Ok(())
}

/// Gives the token back. Before [`finish`], which wakes those who wait for it.
pub fn release_token() {
    token().store(0, Ordering::Release);
}
