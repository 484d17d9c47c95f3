//! Range barriers for counted loops over consecutive memory.
//!
//! A loop that counts from a start to a bound in constant steps, leaves only at its end, and walks
//! over memory without gaps, needs no check per iteration: one range in front of it acquires all.
//! The shapes are those that LLVM's own loop passes leave behind: the counter is compared for
//! equality after the step, which must not wrap, so that the bound is met exactly.

use super::hoist::{always_runs, invariant};
use super::plan::*;
use super::runtime::Runtime;
use crate::analysis::cfg::{Cfg, NONE};
use crate::analysis::epoch::Epochs;
use crate::analysis::loops::{Loop, Loops};
use crate::ffi::{Module, Opcode, Value};
use ame_abi::GRANULE;
use llvm_sys::LLVMIntPredicate;

/// Memory that a loop walks over: from `base + start * unit + low` up to
/// `base + bound * unit - stride + high`, in bytes.
#[derive(Clone, Debug)]
pub struct Stream {
    /// `None`: start and bound are pointers themselves, and `unit` is 1.
    base: Option<Value>,
    start: Value,
    bound: Value,
    /// Bytes per step of the counter's unit.
    unit: u64,
    /// Bytes from one iteration to the next.
    stride: i64,
    low: i64,
    high: i64,
    /// Of writes that leave granules out: bytes from one to the next, and of each.
    steps: Option<(u64, u64)>,
}

impl Stream {
    pub fn steps(&self) -> Option<(u64, u64)> {
        self.steps
    }
}

/// Builds the first address and the length in bytes: up to the end of the last access, or, of writes
/// in steps, up to where the next would be.
pub fn build(runtime: &mut Runtime, stream: &Stream) -> (Value, Value) {
    let (b, i8t, i64t) = (&runtime.builder, runtime.i8, runtime.i64);
    let (first, distance) = match stream.base {
        Some(base) => {
            let unit = i64t.int(stream.unit);
            let skip = b.binary(Opcode::LLVMMul, stream.start, unit);
            let steps = b.binary(Opcode::LLVMSub, stream.bound, stream.start);
            (
                b.gep(i8t, base, skip),
                b.binary(Opcode::LLVMMul, steps, unit),
            )
        }
        None => {
            let from = b.ptr_to_int(stream.start, i64t);
            let to = b.ptr_to_int(stream.bound, i64t);
            (stream.start, b.binary(Opcode::LLVMSub, to, from))
        }
    };
    let first = b.gep(i8t, first, i64t.int(stream.low as u64));
    if stream.steps.is_some() {
        return (first, distance);
    }
    let rest = stream.high - stream.low - stream.stride;
    (
        first,
        b.binary(Opcode::LLVMAdd, distance, i64t.int(rest as u64)),
    )
}

/// The counter of a loop: `phi` starts at `start` and is `bound` after the last step.
struct Counter {
    phi: Value,
    start: Value,
    bound: Value,
    /// Step in units of the counter: of an integer, or bytes of a pointer.
    step: i64,
}

/// Barriers of one loop on one base, with the byte range of each in the first iteration.
struct Group {
    base: Option<Value>,
    mode: Mode,
    unit: u64,
    members: Vec<(i64, i64, usize)>,
}

/// Replaces the barriers of counted loops by ranges; returns how many barriers.
pub fn run(module: Module, cfg: &Cfg, loops: &Loops, epochs: &Epochs, plan: &mut Plan) -> u64 {
    let mut by_loop: Vec<Vec<usize>> = vec![Vec::new(); loops.all.len()];
    for (i, b) in plan.barriers.iter().enumerate() {
        let id = loops.innermost[b.place.block as usize];
        if id != NONE && b.dropped.is_none() && matches!(b.mode, Mode::Read | Mode::Write) {
            by_loop[id as usize].push(i);
        }
    }
    let mut replaced = 0;
    for (id, members) in by_loop.iter().enumerate().filter(|(_, m)| !m.is_empty()) {
        let l = &loops.all[id];
        if l.body.iter().any(|&b| epochs.has_kill(b)) {
            continue;
        }
        let Some(preheader) = l.preheader else {
            continue;
        };
        let Some(at) = cfg.blocks[preheader as usize].terminator() else {
            continue;
        };
        let Some(counter) = counter(cfg, loops, id as u32, l, preheader) else {
            continue;
        };
        let mut groups: Vec<Group> = Vec::new();
        for &i in members {
            let b = &plan.barriers[i];
            if !always_runs(cfg, l, b.place.block, true) {
                continue;
            }
            let Some((base, unit, offset)) = walk(module, cfg, loops, id as u32, &counter, b)
            else {
                continue;
            };
            let range = (offset, offset + b.piece.size as i64, i);
            let same = |g: &&mut Group| g.base == base && g.unit == unit && g.mode == b.mode;
            match groups.iter_mut().find(same) {
                Some(group) => group.members.push(range),
                None => groups.push(Group {
                    base,
                    mode: b.mode,
                    unit,
                    members: vec![range],
                }),
            }
        }
        // Writes first: reads of the same bytes then need nothing.
        groups.sort_by_key(|group| group.mode != Mode::Write);
        let mut written: Vec<(Option<Value>, u64, i64, i64)> = Vec::new();
        for mut group in groups {
            let covered = |&(from, to, _): &(i64, i64, usize)| {
                let on =
                    |w: &&(Option<Value>, u64, i64, i64)| (w.0, w.1) == (group.base, group.unit);
                written.iter().filter(on).any(|w| w.2 <= from && to <= w.3)
            };
            for &(_, _, i) in group.members.iter().filter(|m| covered(m)) {
                plan.barriers[i].dropped = Some(Skip::Ranged);
                replaced += 1;
            }
            group.members = group
                .members
                .iter()
                .filter(|m| !covered(m))
                .copied()
                .collect();
            if group.members.is_empty() {
                continue;
            }
            let stride = counter.step * group.unit as i64;
            let walks = match dense(&mut group.members, stride, group.mode) {
                Some((low, high)) => vec![(low, high, None)],
                None if group.mode == Mode::Write => steps(&group.members, stride),
                None => continue,
            };
            for &(from, to, i) in &group.members {
                plan.barriers[i].dropped = Some(Skip::Ranged);
                replaced += 1;
                if group.mode == Mode::Write {
                    written.push((group.base, group.unit, from, to));
                }
            }
            for (low, high, steps) in walks {
                plan.steps.push(Step {
                    place: Place {
                        block: preheader,
                        position: u32::MAX - 1,
                        at,
                    },
                    action: Action::Stream {
                        mode: group.mode,
                        stream: Stream {
                            base: group.base,
                            start: counter.start,
                            bound: counter.bound,
                            unit: group.unit,
                            stride,
                            low,
                            high,
                            steps,
                        },
                    },
                });
            }
        }
    }
    replaced
}

/// Recognises the counter of a loop whose only exit is its only latch.
fn counter(cfg: &Cfg, loops: &Loops, id: u32, l: &Loop, preheader: u32) -> Option<Counter> {
    let (&[latch], &[exit]) = (&l.latches[..], &l.exiting[..]) else {
        return None;
    };
    if latch != exit {
        return None;
    }
    let branch = cfg.blocks[latch as usize].terminator()?;
    if branch.opcode() != Some(Opcode::LLVMBr) || branch.operands() != 3 {
        return None;
    }
    let compare = branch.operand(0);
    if compare.opcode() != Some(Opcode::LLVMICmp) {
        return None;
    }
    let leaves = branch.successors().first().map(|b| cfg.index[b]) != Some(l.header);
    if !leaves && compare.predicate() == LLVMIntPredicate::LLVMIntULT {
        return constant_counter(cfg, l, preheader, compare);
    }
    // Leaves when the counter equals the bound.
    let wanted = if leaves {
        LLVMIntPredicate::LLVMIntEQ
    } else {
        LLVMIntPredicate::LLVMIntNE
    };
    if compare.predicate() != wanted {
        return None;
    }
    let (mut next, mut bound) = (compare.operand(0), compare.operand(1));
    if invariant(cfg, loops, id, next) {
        std::mem::swap(&mut next, &mut bound);
    }
    if !invariant(cfg, loops, id, bound) || !next.is_instruction() {
        return None;
    }
    let (phi, step) = match next.opcode()? {
        Opcode::LLVMAdd if next.ty().int_width() == Some(64) && next.never_wraps() => {
            (next.operand(0), next.operand(1).as_i64()?)
        }
        Opcode::LLVMGetElementPtr if next.is_inbounds() && next.operands() == 2 => {
            let bytes = next.operand(1).as_i64()?;
            (next.operand(0), bytes.checked_mul(cfg_size(next)?)?)
        }
        _ => return None,
    };
    if step <= 0 || phi.opcode() != Some(Opcode::LLVMPHI) {
        return None;
    }
    if phi.block() != cfg.blocks[l.header as usize] {
        return None;
    }
    let mut start = None;
    for (value, from) in phi.incoming() {
        let from = cfg.index[&from];
        if from == preheader {
            start = Some(value);
        } else if value != next {
            return None;
        }
    }
    Some(Counter {
        phi,
        start: start?,
        bound,
        step,
    })
}

/// The counter of an unrolled loop, which goes on while it is, plus a constant, below another.
fn constant_counter(cfg: &Cfg, l: &Loop, preheader: u32, compare: Value) -> Option<Counter> {
    let phi = addition(compare.operand(0)).map_or(compare.operand(0), |(root, _)| root);
    if phi.opcode() != Some(Opcode::LLVMPHI)
        || phi.block() != cfg.blocks[l.header as usize]
        || phi.ty().int_width() != Some(64)
    {
        return None;
    }
    let (mut start, mut step) = (None, None);
    for (value, from) in phi.incoming() {
        if cfg.index[&from] == preheader {
            start = Some(value);
        } else if value.opcode() == Some(Opcode::LLVMAdd) && value.operand(0) == phi {
            step = value.operand(1).as_i64();
        } else {
            return None;
        }
    }
    let (start, step) = (start?, step.filter(|&step| step > 0)?);
    let mut counter = Counter {
        phi,
        start,
        bound: start,
        step,
    };
    let first = start.as_i64().filter(|&first| first >= 0)?;
    let ahead = plus(&counter, compare.operand(0)).filter(|&ahead| ahead >= 0)?;
    let limit = compare.operand(1).as_i64().filter(|&limit| limit >= 0)?;
    let left = limit.checked_sub(first.checked_add(ahead)?)?.max(0);
    // The comparison comes after the body: once more than it holds.
    let rounds = 1 + left / step + i64::from(left % step != 0);
    let bound = rounds.checked_mul(step)?.checked_add(first)?;
    // Nothing wraps on the way, neither the counter nor what is compared.
    bound.checked_add(ahead)?;
    counter.bound = phi.ty().int(bound as u64);
    Some(counter)
}

/// A sum, or what may be written as one, with a constant.
fn addition(value: Value) -> Option<(Value, i64)> {
    match value.opcode()? {
        Opcode::LLVMAdd | Opcode::LLVMOr => Some((value.operand(0), value.operand(1).as_i64()?)),
        _ => None,
    }
}

/// The constant that is added to the counter to make `value`.
fn plus(counter: &Counter, value: Value) -> Option<i64> {
    if value == counter.phi {
        return Some(0);
    }
    let (root, n) = addition(value)?;
    if root != counter.phi {
        return None;
    }
    if value.opcode() == Some(Opcode::LLVMOr) {
        // An addition when the counter never has these bits.
        let zeros = (counter.start.as_i64()? | counter.step).trailing_zeros();
        if n < 0 || zeros >= 63 || n >> zeros != 0 {
            return None;
        }
    }
    Some(n)
}

/// Factor and constant of an index `(counter + constant) * factor`.
fn scaled(counter: &Counter, index: Value) -> Option<(i64, i64)> {
    if let Some(n) = plus(counter, index) {
        return Some((1, n));
    }
    let factor = match index.opcode()? {
        Opcode::LLVMMul => index.operand(1).as_i64()?,
        Opcode::LLVMShl => 1 << index.operand(1).as_i64().filter(|n| (0..12).contains(n))?,
        _ => return None,
    };
    (factor > 0).then_some((factor, plus(counter, index.operand(0))?))
}

/// Size of the element that a GEP with one index counts in, for sizes that need no data layout.
fn cfg_size(gep: Value) -> Option<i64> {
    gep.gep_source().int_width().map(|bits| i64::from(bits / 8))
}

/// Where a barrier's access lies: base, bytes per unit of the counter, offset at counter 0.
fn walk(
    module: Module,
    cfg: &Cfg,
    loops: &Loops,
    id: u32,
    counter: &Counter,
    barrier: &Barrier,
) -> Option<(Option<Value>, u64, i64)> {
    let base = barrier.piece.address.base;
    if base == counter.phi {
        return Some((None, 1, barrier.piece.address.offset));
    }
    if counter.phi.ty().is_pointer()
        || base.opcode() != Some(Opcode::LLVMGetElementPtr)
        || !base.is_instruction()
        || base.operands() != 2
        || base.ty().is_vector()
        || !invariant(cfg, loops, id, base.operand(0))
    {
        return None;
    }
    let (factor, constant) = scaled(counter, base.operand(1))?;
    let unit = module
        .alloc_size(base.gep_source())
        .checked_mul(factor as u64)
        .filter(|unit| (1..=4096).contains(unit))?;
    let offset = constant.checked_mul(unit as i64)?;
    let offset = offset.checked_add(barrier.piece.address.offset)?;
    Some((Some(base.operand(0)), unit, offset))
}

/// First and last byte that the members touch per iteration, if the loop leaves no gap in which a
/// whole granule could lie. A read may acquire a little more than it reads, a write may not.
fn dense(members: &mut [(i64, i64, usize)], stride: i64, mode: Mode) -> Option<(i64, i64)> {
    let slack = if mode == Mode::Read {
        2 * GRANULE as i64
    } else {
        0
    };
    members.sort_unstable();
    let low = members.first()?.0;
    let mut high = low;
    for &(from, to, _) in members.iter() {
        if from > high + slack {
            return None;
        }
        high = high.max(to);
    }
    (low + stride <= high + slack).then_some((low, high))
}

/// The same for writes with gaps: one walk in even steps if they make one, else one for each.
fn steps(members: &[(i64, i64, usize)], stride: i64) -> Vec<(i64, i64, Option<(u64, u64)>)> {
    let size = |&(from, to, _): &(i64, i64, usize)| (to - from) as u64;
    let n = members.len() as i64;
    let step = stride / n;
    let first = &members[0];
    let even = stride % n == 0
        && (members.iter().zip(0..))
            .all(|(m, i)| m.0 == first.0 + i * step && size(m) == size(first));
    if even {
        return vec![(first.0, first.1, Some((step as u64, size(first))))];
    }
    let walk = |m: &(i64, i64, usize)| (m.0, m.1, Some((stride as u64, size(m))));
    members.iter().map(walk).collect()
}
