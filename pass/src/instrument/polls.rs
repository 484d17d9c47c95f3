//! Polls, where a doomed transaction could otherwise run for long without noticing.

use super::plan::*;
use crate::analysis::cfg::{Cfg, NONE};
use crate::analysis::loops::Loops;
use crate::ffi::Value;

/// Adds polls to loops with an iteration without barrier, and to the entry of functions that reach
/// one of these calls without barrier.
pub fn add(cfg: &Cfg, loops: &Loops, plan: &mut Plan, calls: &[u32]) -> u64 {
    let mut checked = vec![false; cfg.blocks.len()];
    for b in plan
        .barriers
        .iter()
        .filter(|b| b.dropped.is_none() && b.mode != Mode::Private)
    {
        checked[b.place.block as usize] = true;
    }
    for s in &plan.steps {
        checked[s.place.block as usize] |= matches!(
            s.action,
            Action::Range {
                mode: Mode::Read | Mode::Write,
                length: Length::Bytes(_),
                ..
            }
        );
    }
    let mut polls = Vec::new();
    for l in &loops.all {
        if l.latches
            .iter()
            .all(|&latch| passes(cfg, &checked, latch, l.header))
        {
            continue;
        }
        // A header without an insertion point (exception handling) has none to spare.
        polls.extend(poll_at(
            cfg,
            l.header,
            cfg.blocks[l.header as usize].first_insertion_point(),
        ));
    }
    let common = calls
        .iter()
        .copied()
        .filter(|&b| cfg.reachable(b))
        .reduce(|a, b| {
            let (mut a, mut b) = (a, b);
            while a != b {
                if cfg.position[a as usize] > cfg.position[b as usize] {
                    a = cfg.idom[a as usize];
                } else {
                    b = cfg.idom[b as usize];
                }
            }
            a
        });
    if common.is_some_and(|c| !passes(cfg, &checked, c, 0)) {
        let start = cfg.blocks[0]
            .instructions()
            .find(|i| i.opcode() != Some(crate::ffi::Opcode::LLVMAlloca));
        polls.extend(poll_at(cfg, 0, start));
    }
    let n = polls.len() as u64;
    plan.steps.extend(polls);
    n
}

fn poll_at(cfg: &Cfg, block: u32, at: Option<Value>) -> Option<Step> {
    let at = at?;
    let position = cfg.blocks[block as usize]
        .instructions()
        .position(|i| i == at)? as u32;
    Some(Step {
        place: Place {
            block,
            position,
            at,
        },
        action: Action::Poll,
    })
}

/// Whether a checked block lies on every path from `top`, which dominates `bottom`, to `bottom`.
fn passes(cfg: &Cfg, checked: &[bool], bottom: u32, top: u32) -> bool {
    let mut at = bottom;
    loop {
        if at == NONE {
            return false;
        }
        if checked[at as usize] {
            return true;
        }
        if at == top || at == 0 {
            return false;
        }
        at = cfg.idom[at as usize];
    }
}
