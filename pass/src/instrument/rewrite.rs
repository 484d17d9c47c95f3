//! Applies a plan.
//!
//! Blocks are split from their last barrier to the first, so that every instruction moves once.

use super::plan::*;
use super::runtime::{Runtime, Vectors};
use super::stream;
use crate::analysis::address::Address;
use crate::ffi::{Opcode, Value};
use crate::options::Optimisations;
use ame_abi::{sym, GRANULE};
use std::cmp::Reverse;

enum Item<'a> {
    Barrier(&'a Barrier),
    Step(&'a Step),
}

/// Rewrites `function`; returns the number of inline checks.
///
/// What the code is to be good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Each barrier is a single piece of assembly, which compiles fast.
    Compact,
    /// Runs inside and outside of transactions.
    Mixed,
    /// The body of a function with a plain clone: seldom runs outside.
    Body,
}

pub fn apply(
    runtime: &mut Runtime,
    function: Value,
    plan: &Plan,
    options: Optimisations,
    form: Form,
) -> u64 {
    let inline_read = options.inline_read;
    let barriers = plan.barriers.iter().filter(|b| b.dropped.is_none());
    let mut items: Vec<(Place, usize, Item)> = barriers
        .map(|b| (b.place, Item::Barrier(b)))
        .chain(plan.steps.iter().map(|s| (s.place, Item::Step(s))))
        .enumerate()
        .map(|(i, (place, item))| (place, i, item))
        .collect();
    if items.is_empty() && plan.counts.is_empty() {
        return 0;
    }
    items.sort_by_key(|(p, i, _)| Reverse((p.block, p.position, *i)));
    gather_allocas(function);
    let vectors = Vectors::of(function, plan.floats);
    let mut rewriter = Rewriter {
        runtime,
        vectors,
        inline_read,
        compact: form == Form::Compact,
        is_body: form == Form::Body,
        checks: 0,
    };

    for (place, _, item) in &items {
        match item {
            Item::Barrier(barrier) => rewriter.barrier(barrier),
            Item::Step(step) => rewriter.step(place.at, &step.action),
        }
    }
    // Last: what is inserted before a marker needs it in place.
    for &call in &plan.counts {
        rewriter.runtime.expand_count(call, vectors);
    }
    rewriter.checks
}

/// Gathers the allocas of fixed size at the function's start: they must not leave the entry block when that is split.
fn gather_allocas(function: Value) {
    let Some(start) = function.entry().and_then(|entry| {
        entry
            .instructions()
            .find(|i| i.opcode() != Some(Opcode::LLVMAlloca))
    }) else {
        return;
    };
    let late: Vec<Value> = std::iter::successors(start.next(), |i| i.next())
        .filter(|i| i.opcode() == Some(Opcode::LLVMAlloca) && i.operand(0).as_u64().is_some())
        .collect();
    for alloca in late {
        alloca.move_before(start);
    }
}

struct Rewriter<'a> {
    runtime: &'a mut Runtime,
    vectors: Vectors,
    inline_read: bool,
    /// Barriers are single pieces of assembly.
    compact: bool,
    is_body: bool,
    checks: u64,
}

impl Rewriter<'_> {
    fn barrier(&mut self, barrier: &Barrier) {
        let at = barrier.place.at;
        let pointer = if barrier.moved {
            self.runtime.builder.before(at);
            self.place(barrier.piece.address)
        } else {
            barrier.pointer
        };
        if barrier.mode == Mode::Private {
            return self.private(at, pointer, barrier);
        }
        for offset in barrier.piece.check_offsets() {
            self.runtime.builder.before(at);
            let byte = self.advance(pointer, offset);
            self.check(at, byte, barrier.mode, barrier.hot);
        }
    }

    /// One test for all private memory that a stretch of code writes.
    fn private(&mut self, at: Value, pointer: Value, barrier: &Barrier) {
        if self.compact && barrier.also.is_empty() {
            self.runtime.builder.before(at);
            return self
                .runtime
                .compact_private(pointer, barrier.piece.size, self.vectors);
        }
        let mut pieces = vec![barrier.piece];
        pieces.extend(&barrier.also);
        let pieces = Piece::joined(pieces);
        let place = |rewriter: &Self, piece: &Piece| match piece.address == barrier.piece.address {
            true => pointer,
            false => rewriter.place(piece.address),
        };
        let (_, rest) = self.runtime.cold_before(at, |r| {
            let places = pieces.iter().map(|p| (place(self, p), p.check_offsets()));
            self.any_too_low(&places.collect::<Vec<_>>(), Mode::Write)
                .unwrap_or_else(|| r.in_transaction())
        });
        for piece in &pieces {
            let (start, size) = (place(self, piece), self.runtime.i64.int(piece.size));
            self.runtime
                .range_stub(sym::PRIVATE_RANGE, start, size, self.vectors);
        }
        self.runtime.builder.branch(rest);
    }

    /// Condition: the transaction does not hold all of these bytes yet. Nothing where they are too many to look at here.
    fn any_too_low(&self, places: &[(Value, Vec<u64>)], mode: Mode) -> Option<Value> {
        let bytes = places
            .iter()
            .flat_map(|(start, offsets)| offsets.iter().map(|offset| (*start, *offset)));
        if bytes.clone().count() > MOST_CHECKS {
            return None;
        }
        let r = &*self.runtime;
        bytes
            .map(|(start, offset)| r.check(self.advance(start, offset), mode != Mode::Read))
            .map(|check| check.too_low)
            .reduce(|one, other| r.builder.binary(Opcode::LLVMOr, one, other))
    }

    fn place(&self, address: Address) -> Value {
        self.advance(address.base, address.offset as u64)
    }

    fn advance(&self, pointer: Value, offset: u64) -> Value {
        if offset == 0 {
            return pointer;
        }
        let (i8t, i64t) = (self.runtime.i8, self.runtime.i64);
        self.runtime.builder.gep(i8t, pointer, i64t.int(offset))
    }

    /// One inline check.
    fn check(&mut self, at: Value, pointer: Value, mode: Mode, hot: bool) {
        self.checks += 1;
        let stub = match mode {
            Mode::Read => sym::READ_SLOW,
            Mode::Immutable => sym::IMMUTABLE_SLOW,
            _ => sym::WRITE_SLOW,
        };
        if self.compact {
            self.runtime.builder.before(at);
            let write = mode != Mode::Read;
            return self
                .runtime
                .compact_check(pointer, write, stub, self.vectors);
        }
        let mut check = None;
        let (_, rest) = self.runtime.cold_before(at, |r| {
            check.insert(r.check(pointer, mode != Mode::Read)).too_low
        });
        if let (Some(check), Mode::Read, true) = (check, mode, hot && self.inline_read) {
            return self
                .runtime
                .inline_read(&check, pointer, self.vectors, rest);
        }
        self.runtime.stub(stub, Some(pointer), self.vectors);
        self.runtime.builder.branch(rest);
    }

    fn step(&mut self, at: Value, action: &Action) {
        match *action {
            Action::Range {
                mode,
                pointer,
                length,
            } => self.range(at, mode, pointer, length),
            Action::Lanes(ref lanes) => self.lanes(at, lanes),
            Action::Packed(ref lanes) => self.packed(at, lanes),
            Action::Stream { mode, ref stream } => {
                let (_, rest) = self.runtime.cold_before(at, |r| r.in_transaction());
                let (start, length) = stream::build(self.runtime, stream);
                match stream.steps() {
                    Some(steps) => self.runtime.write_steps(start, length, steps, self.vectors),
                    None => self
                        .runtime
                        .range_stub(range_name(mode), start, length, self.vectors),
                }
                self.runtime.builder.branch(rest);
            }
            Action::Poll => {
                if self.compact {
                    self.runtime.builder.before(at);
                    return self.runtime.compact_poll(self.vectors);
                }
                let (_, rest) = self.runtime.cold_before(at, |r| r.poked());
                self.runtime.stub(sym::POLL_SLOW, None, self.vectors);
                self.runtime.builder.branch(rest);
            }
            Action::Check { target } => self.target(at, target),
            Action::Inevitable => self.guarded(at, sym::MAKE_INEVITABLE),
            Action::Exclusive => self.guarded(at, sym::MAKE_EXCLUSIVE),
            Action::BoundaryEnter => self.plain(at, sym::BOUNDARY_ENTER),
            Action::BoundaryLeave => self.plain(at, sym::BOUNDARY_LEAVE),
        }
    }

    fn plain(&mut self, at: Value, name: &'static str) {
        self.runtime.builder.before(at);
        self.runtime.call(name, &[]);
    }

    fn guarded(&mut self, at: Value, name: &'static str) {
        if self.compact {
            self.runtime.builder.before(at);
            return self.runtime.compact_plain(name, self.vectors);
        }
        let (_, rest) = self.runtime.cold_before(at, |r| r.in_transaction());
        self.runtime.plain_stub(name, self.vectors);
        self.runtime.builder.branch(rest);
    }

    fn range(&mut self, at: Value, mode: Mode, pointer: Value, length: Length) {
        let (_, rest) = self.runtime.cold_before(at, |r| {
            let offsets = match length {
                Length::Bytes(n @ 1..=MOST_BYTES) if !self.compact => {
                    check_offsets(n, r.module.pointer_alignment(pointer), None)
                }
                _ => return r.in_transaction(),
            };
            self.any_too_low(&[(pointer, offsets)], mode)
                .unwrap_or_else(|| r.in_transaction())
        });
        if let Length::Text(most) = length {
            let most = match most {
                Some(most) => self.runtime.builder.int_cast(most, self.runtime.i64, false),
                None => self.runtime.i64.int(u64::MAX),
            };
            super::text::call(self.runtime, pointer, most, mode);
        } else {
            let length = self.length(length);
            self.runtime
                .range_stub(range_name(mode), pointer, length, self.vectors);
        }
        self.runtime.builder.branch(rest);
    }

    fn length(&self, length: Length) -> Value {
        let (b, i64t) = (&self.runtime.builder, self.runtime.i64);
        let wide = |v: Value| b.int_cast(v, i64t, false);
        match length {
            Length::Bytes(n) => i64t.int(n),
            Length::Value(v) => wide(v),
            Length::Product(x, y) => b.binary(Opcode::LLVMMul, wide(x), wide(y)),
            Length::Scaled(x, n) => b.binary(Opcode::LLVMMul, wide(x), i64t.int(n)),
            Length::Text(_) => i64t.int(0),
        }
    }

    fn lanes(&mut self, at: Value, lanes: &Lanes) {
        let (pointer, stride) = (lanes.pointer, lanes.stride);
        let (_, rest) = self.runtime.cold_before(at, |r| r.in_transaction());
        for lane in 0..lanes.count {
            let r = &mut *self.runtime;
            let index = r.i32.int(lane.into());
            let flag = r.builder.extract_element(lanes.mask, index);
            let place = if pointer.ty().is_vector() {
                r.builder.extract_element(pointer, index)
            } else {
                r.builder
                    .gep(r.i8, pointer, r.i64.int(u64::from(lane) * stride))
            };
            let length = r.builder.select(flag, r.i64.int(stride), r.i64.int(0));
            r.range_stub(range_name(lanes.mode), place, length, self.vectors);
        }
        self.runtime.builder.branch(rest);
    }

    fn packed(&mut self, at: Value, lanes: &Lanes) {
        let (_, rest) = self.runtime.cold_before(at, |r| r.in_transaction());
        let r = &mut *self.runtime;
        let mut length = r.i64.int(0);
        for lane in 0..lanes.count {
            let flag = (r.builder).extract_element(lanes.mask, r.i32.int(lane.into()));
            let bytes = (r.builder).select(flag, r.i64.int(lanes.stride), r.i64.int(0));
            length = r.builder.binary(Opcode::LLVMAdd, length, bytes);
        }
        r.range_stub(range_name(lanes.mode), lanes.pointer, length, self.vectors);
        r.builder.branch(rest);
    }

    /// In a transaction, a target without the magic word is looked up by the runtime.
    fn target(&mut self, at: Value, target: Value) {
        if self.compact {
            self.runtime.builder.before(at);
            return self.runtime.compact_target(target, self.vectors);
        }
        let is_body = self.is_body;
        if !is_body || self.runtime.module.is_of_program() {
            let (_, rest) = self.runtime.cold_before(at, |r| match is_body {
                true => r.is_no_dispatcher(target),
                false => r.in_transaction(),
            });
            self.runtime.check_target(target, self.vectors);
            self.runtime.builder.branch(rest);
            return;
        }
        let mut word = None;
        let (_, rest) = self.runtime.cold_before(at, |r| {
            let word = *word.insert(r.load_prefix(target));
            r.lacks_prefix(word)
        });
        self.runtime.look_up(target, self.vectors);
        self.runtime.builder.branch(rest);
        // Before that is loaded.
        if let Some(word) = word {
            self.runtime.cold_before(word, |r| r.begins_page(target));
            self.runtime.look_up(target, self.vectors);
            self.runtime.builder.branch(rest);
        }
    }
}

fn range_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Read => sym::READ_RANGE,
        Mode::Private => sym::PRIVATE_RANGE,
        _ => sym::WRITE_RANGE,
    }
}

/// What lies in so many granules needs no call when these are written already, as new memory is.
const MOST_CHECKS: usize = 8;
const MOST_BYTES: u64 = (MOST_CHECKS * GRANULE) as u64;
