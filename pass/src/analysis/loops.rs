//! Natural loops.

use super::cfg::{Cfg, NONE};

/// A natural loop: all loops with the same header are one.
pub struct Loop {
    pub header: u32,
    /// Sources of the back edges.
    pub latches: Vec<u32>,
    /// All blocks, the header included.
    pub body: Vec<u32>,
    /// Blocks of the body with a successor outside.
    pub exiting: Vec<u32>,
    /// The only block that enters the loop, if it does nothing else than enter it.
    pub preheader: Option<u32>,
    /// Index of the innermost loop around this one, or [`NONE`].
    pub parent: u32,
    pub depth: u32,
}

/// All loops of a function, outer ones first.
pub struct Loops {
    pub all: Vec<Loop>,
    /// Innermost loop of each block, or [`NONE`].
    pub innermost: Vec<u32>,
}

impl Loops {
    pub fn new(cfg: &Cfg) -> Loops {
        let n = cfg.blocks.len();
        let mut latches: Vec<(u32, Vec<u32>)> = Vec::new();
        for &header in &cfg.order {
            let back: Vec<u32> = cfg.predecessors[header as usize]
                .iter()
                .copied()
                .filter(|&p| cfg.reachable(p) && cfg.dominates(header, p))
                .collect();
            if !back.is_empty() {
                latches.push((header, back));
            }
        }
        let mut loops = Loops {
            all: Vec::new(),
            innermost: vec![NONE; n],
        };
        let mut member = vec![NONE; n];
        // A header is met after the headers of the loops around it, so `innermost` ends up right.
        for (id, (header, latches)) in latches.into_iter().enumerate() {
            let id = id as u32;
            let mut body = vec![header];
            member[header as usize] = id;
            let mut work = latches.clone();
            while let Some(b) = work.pop() {
                if member[b as usize] == id || !cfg.reachable(b) {
                    continue;
                }
                member[b as usize] = id;
                body.push(b);
                work.extend(&cfg.predecessors[b as usize]);
            }
            let parent = loops.innermost[header as usize];
            for &b in &body {
                loops.innermost[b as usize] = id;
            }
            let inside = |b: u32| member[b as usize] == id;
            let exiting = body
                .iter()
                .copied()
                .filter(|&b| cfg.successors[b as usize].iter().any(|&s| !inside(s)))
                .collect();
            let mut outside = cfg.predecessors[header as usize]
                .iter()
                .copied()
                .filter(|&p| !inside(p));
            let preheader = match (outside.next(), outside.next()) {
                (Some(p), None) if cfg.successors[p as usize].len() == 1 => Some(p),
                _ => None,
            };
            let depth = match parent {
                NONE => 1,
                p => loops.all[p as usize].depth + 1,
            };
            loops.all.push(Loop {
                header,
                latches,
                body,
                exiting,
                preheader,
                parent,
                depth,
            });
        }
        loops
    }

    pub fn contains(&self, id: u32, block: u32) -> bool {
        let mut at = self.innermost[block as usize];
        while at != NONE {
            if at == id {
                return true;
            }
            at = self.all[at as usize].parent;
        }
        false
    }
}
