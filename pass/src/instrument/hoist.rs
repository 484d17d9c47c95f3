//! Moves barriers on loop-invariant addresses in front of the loop.
//!
//! A barrier holds until the transaction ends, so one before the loop does for all iterations,
//! provided that nothing in the loop ends a transaction. A write barrier reads the memory for the
//! undo log, so it moves only when the access surely happens; a read barrier only touches marks.

use super::plan::*;
use crate::analysis::cfg::{Cfg, NONE};
use crate::analysis::epoch::Epochs;
use crate::analysis::loops::{Loop, Loops};
use crate::ffi::Value;

/// Where a value is defined; `None` for constants and parameters.
fn defined_in(cfg: &Cfg, value: Value) -> Option<u32> {
    value.is_instruction().then(|| cfg.index[&value.block()])
}

/// Whether `value` is the same in all iterations.
pub fn invariant(cfg: &Cfg, loops: &Loops, id: u32, value: Value) -> bool {
    defined_in(cfg, value).is_none_or(|block| !loops.contains(id, block))
}

/// Whether `block` runs in every iteration that comes to an end, and, if `at_least_once`, before
/// the loop can be left.
pub fn always_runs(cfg: &Cfg, l: &Loop, block: u32, at_least_once: bool) -> bool {
    l.latches.iter().all(|&latch| cfg.dominates(block, latch))
        && (!at_least_once || l.exiting.iter().all(|&exit| cfg.dominates(block, exit)))
}

/// Moves what can be moved; returns how many barriers.
pub fn run(cfg: &Cfg, loops: &Loops, epochs: &Epochs, plan: &mut Plan) -> u64 {
    let killed: Vec<bool> = loops
        .all
        .iter()
        .map(|l| l.body.iter().any(|&b| epochs.has_kill(b)))
        .collect();
    let mut moved = 0;
    for barrier in plan.barriers.iter_mut().filter(|b| b.dropped.is_none()) {
        if barrier.mode == Mode::Private {
            continue;
        }
        let mut any = false;
        loop {
            let id = loops.innermost[barrier.place.block as usize];
            if id == NONE || killed[id as usize] {
                break;
            }
            let l = &loops.all[id as usize];
            let Some(preheader) = l.preheader else { break };
            let Some(at) = cfg.blocks[preheader as usize].terminator() else {
                break;
            };
            if !invariant(cfg, loops, id, barrier.piece.address.base)
                || !always_runs(cfg, l, barrier.place.block, barrier.mode != Mode::Read)
            {
                break;
            }
            barrier.place = Place {
                block: preheader,
                position: u32::MAX - 1,
                at,
            };
            barrier.moved = true;
            any = true;
        }
        moved += u64::from(any);
    }
    moved
}
