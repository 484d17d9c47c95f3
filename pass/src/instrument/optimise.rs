//! Drops barriers that an earlier one covers.
//!
//! One walk over the dominator tree, with the barriers of the dominating blocks in scope. A barrier
//! covers another on the same base pointer in the same epoch ([`crate::analysis::epoch`]) when its
//! granules contain the other's bytes and it is strong enough.

use super::plan::*;
use crate::analysis::cfg::Cfg;
use crate::analysis::epoch::Epochs;
use crate::ffi::{Module, Value};
use crate::options::Optimisations;
use ame_abi::GRANULE;
use rustc_hash::FxHashMap;

/// How many barriers in scope on one base are compared.
const LIMIT: usize = 64;

struct Entry {
    low: i64,
    high: i64,
    exact_low: i64,
    exact_high: i64,
    mode: Mode,
    epoch: u32,
    barrier: usize,
}

struct Walk<'a> {
    plan: &'a mut Plan,
    epochs: &'a Epochs,
    fresh: FxHashMap<Value, u32>,
    options: Optimisations,
    scope: FxHashMap<Value, Vec<Entry>>,
    dropped: Vec<(usize, Skip)>,
}

/// Fills in what is known about alignment to granules.
pub fn residues(module: Module, barriers: &mut [Barrier], fresh: &[(Value, Place, u64)]) {
    let granule = GRANULE as u64;
    let mut known: FxHashMap<Value, u64> = fresh
        .iter()
        .map(|(value, _, align)| (*value, *align))
        .collect();
    let pieces = barriers.iter_mut().map(|b| &mut b.piece);
    for b in pieces.filter(|b| b.residue.is_none()) {
        let base = b.address.base;
        let align = *known
            .entry(base)
            .or_insert_with(|| module.pointer_alignment(base));
        if align >= granule {
            b.residue = Some(b.address.offset.rem_euclid(granule as i64) as u8);
        } else if b.align >= granule {
            b.residue = Some(0);
        }
    }
}

/// Drops barriers; returns which, and why.
pub fn run(
    cfg: &Cfg,
    epochs: &Epochs,
    plan: &mut Plan,
    fresh: &[(Value, Place, u64)],
    options: Optimisations,
) -> Vec<(usize, Skip)> {
    let mut by_block: Vec<Vec<usize>> = vec![Vec::new(); cfg.blocks.len()];
    for (i, b) in plan.barriers.iter().enumerate() {
        by_block[b.place.block as usize].push(i);
    }
    for list in &mut by_block {
        list.sort_by_key(|&i| plan.barriers[i].place.position);
    }
    let fresh = fresh
        .iter()
        .filter(|_| options.fresh)
        .map(|(value, place, _)| (*value, epochs.before(place.block, place.position + 1)))
        .collect();
    let mut walk = Walk {
        plan,
        epochs,
        fresh,
        options,
        scope: FxHashMap::default(),
        dropped: Vec::new(),
    };
    // Depth first; `None` closes the scope of a block.
    let mut stack: Vec<(u32, bool)> = vec![(0, false)];
    let mut opened: Vec<Vec<Value>> = Vec::new();
    while let Some((block, leave)) = stack.pop() {
        if leave {
            for base in opened.pop().unwrap_or_default() {
                if let Some(entries) = walk.scope.get_mut(&base) {
                    entries.pop();
                }
            }
            continue;
        }
        let mut pushed = Vec::new();
        for &i in &by_block[block as usize] {
            if let Some(base) = walk.visit(i) {
                pushed.push(base);
            }
        }
        if options.redundancy {
            walk.gather(cfg, block, &by_block[block as usize]);
        }
        opened.push(pushed);
        stack.push((block, true));
        stack.extend(cfg.dominated[block as usize].iter().map(|&c| (c, false)));
    }
    walk.dropped
}

impl Walk<'_> {
    /// Decides about one barrier; returns its base when it is now in scope.
    fn visit(&mut self, i: usize) -> Option<Value> {
        let b = &self.plan.barriers[i];
        let place = b.place;
        let piece = b.piece;
        let base = piece.address.base;
        let epoch = self.epochs.before(place.block, place.position);
        if self.fresh.get(&base) == Some(&epoch) {
            self.drop(i, Skip::Fresh);
            return None;
        }
        let exact = (
            piece.address.offset,
            piece.address.offset.saturating_add(piece.size as i64),
        );
        let granule = GRANULE as i64;
        let cover = match piece.residue {
            Some(r) if self.options.granule && b.mode != Mode::Private => {
                let low = exact.0 - i64::from(r);
                let length = (exact.1 - low + granule - 1) / granule * granule;
                (low, low.saturating_add(length))
            }
            _ => exact,
        };
        let entries = self.scope.entry(base).or_default();
        let found = entries
            .iter_mut()
            .rev()
            .take(LIMIT)
            .filter(|e| e.epoch == epoch && e.low <= exact.0 && exact.1 <= e.high);
        for entry in found {
            let precise = entry.exact_low <= exact.0 && exact.1 <= entry.exact_high;
            if self.options.redundancy && strong_enough(entry.mode, b.mode) {
                let reason = if precise {
                    Skip::Redundant
                } else {
                    Skip::Granule
                };
                self.drop(i, reason);
                return None;
            }
            let earlier = &self.plan.barriers[entry.barrier];
            if self.options.upgrade
                && entry.mode == Mode::Read
                && b.mode == Mode::Write
                && earlier.place.block == place.block
            {
                entry.mode = Mode::Write;
                let earlier = entry.barrier;
                self.plan.barriers[earlier].mode = Mode::Write;
                self.drop(i, Skip::Upgraded);
                return None;
            }
        }
        entries.push(Entry {
            low: cover.0,
            high: cover.1,
            exact_low: exact.0,
            exact_high: exact.1,
            mode: b.mode,
            epoch,
            barrier: i,
        });
        Some(base)
    }

    /// Private writes of one block and epoch are logged by the first of them, where their addresses
    /// are known by then.
    fn gather(&mut self, cfg: &Cfg, block: u32, barriers: &[usize]) {
        let mut first: Option<(usize, u32)> = None;
        for &i in barriers {
            let b = &self.plan.barriers[i];
            if b.mode != Mode::Private || b.dropped.is_some() || b.moved {
                continue;
            }
            let epoch = self.epochs.before(block, b.place.position);
            let piece = b.piece;
            match first {
                Some((leader, e)) if e == epoch => {
                    let base = piece.address.base;
                    let known = base == self.plan.barriers[leader].piece.address.base
                        || !base.is_instruction()
                        || cfg.index[&base.block()] != block;
                    if known {
                        self.plan.barriers[leader].also.push(piece);
                        self.drop(i, Skip::Together);
                    }
                }
                _ => first = Some((i, epoch)),
            }
        }
    }

    fn drop(&mut self, i: usize, reason: Skip) {
        self.plan.barriers[i].dropped = Some(reason);
        self.dropped.push((i, reason));
    }
}

fn strong_enough(have: Mode, need: Mode) -> bool {
    have == need || (have == Mode::Write && matches!(need, Mode::Read | Mode::Private))
}
