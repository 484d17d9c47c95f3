//! The runtime of Ame: software transactional memory for code that the pass has instrumented.
//!
//! `protocol` is the algorithm; `tables` says where its words live and `peer` what threads show
//! each other; `transaction` is begin, commit and rollback; `access` acquires granules; `entry` is
//! the C ABI. See docs/design.md.

#[cfg(not(loom))]
pub mod access;
#[cfg(not(loom))]
pub mod actions;
#[cfg(not(loom))]
pub mod caller;
#[cfg(not(loom))]
pub mod clock;
#[cfg(not(loom))]
pub mod config;
#[cfg(not(loom))]
pub mod delta;
#[cfg(not(loom))]
pub mod domain;
#[cfg(not(loom))]
pub mod elision;
#[cfg(not(loom))]
pub mod entry;
#[cfg(not(loom))]
pub mod foreign;
#[cfg(not(loom))]
pub mod fork;
pub mod gate;
pub mod handoff;
#[cfg(not(loom))]
pub mod heap;
pub mod hook;
#[cfg(not(loom))]
pub mod host;
pub mod lease;
#[cfg(not(loom))]
pub mod module;
pub mod peer;
pub mod primitive;
pub mod protocol;
#[cfg(not(loom))]
pub mod report;
#[cfg(not(loom))]
pub mod segment;
pub mod sharing;
#[cfg(not(loom))]
pub mod signal;
#[cfg(not(loom))]
pub mod stack;
#[cfg(not(loom))]
pub mod stats;
#[cfg(not(loom))]
pub mod syscall;
pub mod tables;
#[cfg(not(loom))]
pub mod thread;
#[cfg(not(loom))]
pub mod tls;
#[cfg(not(loom))]
pub mod trace;
#[cfg(not(loom))]
pub mod transaction;
#[cfg(not(loom))]
pub mod turns;
#[cfg(not(loom))]
pub mod undo;
#[cfg(not(loom))]
pub mod window;
#[cfg(not(loom))]
pub mod worth;
#[cfg(not(loom))]
#[path = "libc/mod.rs"]
pub mod wrappers;

/// Prints what is wrong and what to do about it, and ends the process.
#[macro_export]
macro_rules! fatal {
    ($($message:tt)*) => {{
        eprintln!("ame: {}", format_args!($($message)*));
        std::process::abort()
    }};
}

#[cfg(not(loom))]
mod start {
    use crate::{
        clock, config, fork, heap, module, primitive, segment, signal, stats, tables, trace, window,
    };
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::Once;

    static CHAOS: AtomicBool = AtomicBool::new(false);

    #[inline(always)]
    pub fn chaos_enabled() -> bool {
        CHAOS.load(Ordering::Relaxed)
    }

    static WATCHED: AtomicBool = AtomicBool::new(false);

    /// Whether every first access must go through Rust: chaos, or a trace.
    #[inline(always)]
    pub fn watched() -> bool {
        WATCHED.load(Ordering::Relaxed)
    }

    static TIMING: AtomicBool = AtomicBool::new(false);

    /// Whether the start of every transaction is timed.
    #[inline(always)]
    pub fn timing() -> bool {
        TIMING.load(Ordering::Relaxed)
    }

    /// An interpreter's reports want it from now on.
    pub fn time_all() {
        TIMING.store(true, Ordering::Relaxed);
    }

    /// Whether threads note their accesses from their next transactions on.
    pub fn watch(on: bool) {
        let config = config::config();
        trace::record(on || trace::enabled());
        WATCHED.store(
            on || config.chaos_rate != 0 || trace::enabled(),
            Ordering::Relaxed,
        );
    }

    /// Prepares the process; cheap to call again.
    pub fn init() {
        static START: Once = Once::new();
        START.call_once(|| {
            heap::init(window::place_arena());
            clock::init();
            // Now, by a thread that nobody has bound to one processor yet.
            primitive::processors();
            tables::init();
            let config = config::config();
            CHAOS.store(config.chaos_rate != 0, Ordering::Relaxed);
            TIMING.store(config.stats || config.log.is_some(), Ordering::Relaxed);
            WATCHED.store(
                config.chaos_rate != 0 || config.log.is_some(),
                Ordering::Relaxed,
            );
            trace::init();
            fork::init();
            signal::init();
            // SAFETY: a function without arguments.
            unsafe { libc::atexit(at_exit) };
        });
    }

    extern "C" fn at_exit() {
        trace::close();
        if config::config().stats {
            stats::print_totals();
        }
    }

    extern "C" fn at_load() {
        init();
        // A program that contains the runtime, instrumented or not, can still be started anew here.
        let here = at_load as extern "C" fn() as usize;
        if module::in_program(here) {
            window::check_new_mappings(true);
        }
        crate::thread::register();
        segment::give_to_others();
    }

    #[used]
    #[link_section = ".init_array"]
    static AT_LOAD: extern "C" fn() = at_load;
}

#[cfg(not(loom))]
pub use start::{chaos_enabled, init, time_all, timing, watch, watched};
