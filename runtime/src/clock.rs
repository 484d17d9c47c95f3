//! The time stamp counter: the cheapest clock that all cores share.

use std::sync::OnceLock;
use std::time::Instant;

#[inline(always)]
pub fn cycles() -> u64 {
    // SAFETY: every x86-64 processor has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

struct Origin {
    cycles: u64,
    instant: Instant,
}

static ORIGIN: OnceLock<Origin> = OnceLock::new();

/// Remembers the start of the program, from which the rate is measured.
pub fn init() {
    ORIGIN.get_or_init(|| Origin {
        cycles: cycles(),
        instant: Instant::now(),
    });
}

/// Converts a number of cycles. The rate is measured over the life of the program so far, so it is
/// exact to a fraction of a percent after a few milliseconds.
pub fn nanoseconds(cycles_taken: u64) -> u64 {
    let Some(origin) = ORIGIN.get() else { return 0 };
    let cycles_since = cycles().wrapping_sub(origin.cycles).max(1);
    let ns_since = origin.instant.elapsed().as_nanos() as f64;
    (cycles_taken as f64 * ns_since / cycles_since as f64) as u64
}

/// Nanoseconds since the program started.
pub fn now() -> u64 {
    ORIGIN
        .get()
        .map_or(0, |origin| origin.instant.elapsed().as_nanos() as u64)
}

/// Time stamp at the start of the program.
pub fn origin_cycles() -> u64 {
    ORIGIN.get().map_or(0, |origin| origin.cycles)
}
