//! Epochs: between which points of a function no transaction can end or begin.
//!
//! A barrier holds until its transaction ends. A call that may end it (a *kill*) starts a new epoch,
//! and so does a block where different epochs meet, as a phi would in SSA form. Two points with the
//! same epoch, one dominating the other, have no kill between them: a path with one would have to
//! come through the epoch's start again, which dominates both, and hence through the first point.

use super::cfg::{Cfg, NONE};

/// Epochs of the points of a function. A point is a block and a position in it.
pub struct Epochs {
    entry: Vec<u32>,
    kills: Vec<Vec<u32>>,
    first_id: Vec<u32>,
}

impl Epochs {
    /// `kills`: positions, ascending, of the killing instructions of each block.
    pub fn new(cfg: &Cfg, kills: Vec<Vec<u32>>) -> Epochs {
        let n = cfg.blocks.len();
        // 0..n: the block where epochs meet (block 0 also is the function's start); above: kills.
        let mut first_id = Vec::with_capacity(n);
        let mut next = n as u32;
        for k in &kills {
            first_id.push(next);
            next += k.len() as u32;
        }
        let leave = |b: usize, entry: u32| match kills[b].len() as u32 {
            0 => entry,
            k => first_id[b] + k - 1,
        };
        let mut entry = vec![NONE; n];
        let mut changed = true;
        while changed {
            changed = false;
            for &b in &cfg.order {
                let mut new = if b == 0 { 0 } else { NONE };
                for &p in &cfg.predecessors[b as usize] {
                    let p = p as usize;
                    if entry[p] == NONE && kills[p].is_empty() {
                        continue; // not visited yet: optimistic
                    }
                    let out = leave(p, entry[p]);
                    if new == NONE {
                        new = out;
                    } else if new != out {
                        new = b;
                    }
                }
                // Once a block starts an epoch it goes on to, which makes this terminate.
                if entry[b as usize] == b {
                    new = b;
                }
                if entry[b as usize] != new {
                    entry[b as usize] = new;
                    changed = true;
                }
            }
        }
        Epochs {
            entry,
            kills,
            first_id,
        }
    }

    /// The epoch just before the instruction at `position` of `block`.
    pub fn before(&self, block: u32, position: u32) -> u32 {
        let b = block as usize;
        match self.kills[b].partition_point(|&k| k < position) as u32 {
            0 => self.entry[b],
            k => self.first_id[b] + k - 1,
        }
    }

    pub fn has_kill(&self, block: u32) -> bool {
        !self.kills[block as usize].is_empty()
    }
}
