//! Control-flow graph of a function with dominators.
//!
//! Blocks are numbered in the order of the function. Dominators are those of Cooper, Harvey and
//! Kennedy, "A Simple, Fast Dominance Algorithm" (2001); dominance is then two comparisons of
//! depth-first numbers.

use crate::ffi::{Block, Value};
use rustc_hash::FxHashMap;

/// Marks "none" in the tables below.
pub const NONE: u32 = u32::MAX;

/// Control-flow graph of one function. Tables are indexed by block number.
pub struct Cfg {
    pub blocks: Vec<Block>,
    pub index: FxHashMap<Block, u32>,
    pub successors: Vec<Vec<u32>>,
    pub predecessors: Vec<Vec<u32>>,
    /// Reachable blocks in reverse post-order.
    pub order: Vec<u32>,
    /// Position in `order`, or [`NONE`] when unreachable.
    pub position: Vec<u32>,
    /// Immediate dominator; the entry's is itself.
    pub idom: Vec<u32>,
    /// Blocks that this one immediately dominates.
    pub dominated: Vec<Vec<u32>>,
    interval: Vec<(u32, u32)>,
}

impl Cfg {
    pub fn new(function: Value) -> Cfg {
        let blocks: Vec<Block> = function.blocks().collect();
        let index: FxHashMap<Block, u32> = blocks
            .iter()
            .enumerate()
            .map(|(i, &b)| (b, i as u32))
            .collect();
        let n = blocks.len();
        let mut successors = Vec::with_capacity(n);
        let mut predecessors = vec![Vec::new(); n];
        for (i, block) in blocks.iter().enumerate() {
            let mut out: Vec<u32> = block.successors().iter().map(|b| index[b]).collect();
            out.sort_unstable();
            out.dedup();
            for &s in &out {
                predecessors[s as usize].push(i as u32);
            }
            successors.push(out);
        }
        let order = reverse_post_order(&successors);
        let mut position = vec![NONE; n];
        for (i, &b) in order.iter().enumerate() {
            position[b as usize] = i as u32;
        }
        let idom = immediate_dominators(&order, &position, &predecessors);
        let mut dominated = vec![Vec::new(); n];
        for &b in order.iter().skip(1) {
            dominated[idom[b as usize] as usize].push(b);
        }
        let interval = number(&dominated, n);
        Cfg {
            blocks,
            index,
            successors,
            predecessors,
            order,
            position,
            idom,
            dominated,
            interval,
        }
    }

    pub fn reachable(&self, block: u32) -> bool {
        self.position[block as usize] != NONE
    }

    /// Whether every path from the entry to `b` passes `a`. Both must be reachable.
    pub fn dominates(&self, a: u32, b: u32) -> bool {
        let (a, b) = (self.interval[a as usize], self.interval[b as usize]);
        a.0 <= b.0 && b.1 <= a.1
    }
}

fn reverse_post_order(successors: &[Vec<u32>]) -> Vec<u32> {
    let mut order = Vec::with_capacity(successors.len());
    let mut seen = vec![false; successors.len()];
    if successors.is_empty() {
        return order;
    }
    let mut stack = vec![(0u32, 0usize)];
    seen[0] = true;
    while let Some((block, next)) = stack.last_mut() {
        match successors[*block as usize].get(*next) {
            Some(&s) => {
                *next += 1;
                if !std::mem::replace(&mut seen[s as usize], true) {
                    stack.push((s, 0));
                }
            }
            None => {
                order.push(*block);
                stack.pop();
            }
        }
    }
    order.reverse();
    order
}

fn immediate_dominators(order: &[u32], position: &[u32], predecessors: &[Vec<u32>]) -> Vec<u32> {
    let mut idom = vec![NONE; predecessors.len()];
    let Some(&entry) = order.first() else {
        return idom;
    };
    idom[entry as usize] = entry;
    let mut changed = true;
    while changed {
        changed = false;
        for &b in &order[1..] {
            let mut new = NONE;
            for &p in &predecessors[b as usize] {
                if position[p as usize] == NONE || idom[p as usize] == NONE {
                    continue;
                }
                new = if new == NONE {
                    p
                } else {
                    meet(&idom, position, p, new)
                };
            }
            if idom[b as usize] != new {
                idom[b as usize] = new;
                changed = true;
            }
        }
    }
    idom
}

fn meet(idom: &[u32], position: &[u32], mut a: u32, mut b: u32) -> u32 {
    while a != b {
        while position[a as usize] > position[b as usize] {
            a = idom[a as usize];
        }
        while position[b as usize] > position[a as usize] {
            b = idom[b as usize];
        }
    }
    a
}

/// Entry and exit numbers of a depth-first walk over the dominator tree.
fn number(dominated: &[Vec<u32>], n: usize) -> Vec<(u32, u32)> {
    let mut interval = vec![(NONE, 0); n];
    if n == 0 {
        return interval;
    }
    let mut clock = 0;
    let mut stack = vec![(0u32, 0usize)];
    interval[0].0 = 0;
    while let Some((block, next)) = stack.last_mut() {
        match dominated[*block as usize].get(*next) {
            Some(&child) => {
                *next += 1;
                clock += 1;
                interval[child as usize].0 = clock;
                stack.push((child, 0));
            }
            None => {
                interval[*block as usize].1 = clock;
                stack.pop();
            }
        }
    }
    interval
}
