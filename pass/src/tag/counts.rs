//! Fields of kind `refcount`, `counter` and `unique`.
//!
//! `field = field + n` becomes a call of a marker function, which the instrument phase expands: in a
//! transaction to a call that adds to the thread's delta, else to an addition. Loads become markers
//! that add the delta to the memory. What fits no pattern stays an ordinary access.

use super::points::stored_values;
use super::Rewrite;
use crate::ffi::{Opcode, Ordering, RmwOp, Value};
use crate::instrument::runtime::Runtime;
use crate::marks::{Kind, Mark, Marks};
use crate::report::Report;
use ame_abi::sym;
use ame_annotations::FieldKind;

const PLAIN: Mark = Mark {
    kind: Kind::Plain,
    residue: None,
};

/// `field = load + delta`.
struct Addition {
    load: Value,
    sum: Value,
    delta: Delta,
}

#[derive(Clone, Copy)]
enum Delta {
    Constant(i64),
    Plus(Value),
    Minus(Value),
}

/// Rewrites the counting accesses of a function.
pub fn rewrite(
    runtime: &mut Runtime,
    marks: &Marks,
    report: &mut Report,
    function: Value,
    rewrites: &[Rewrite],
) {
    let counting = |k| matches!(k, FieldKind::Refcount | FieldKind::Counter);
    // Stores first: they may make the load that belongs to them unnecessary.
    let mut done = Vec::new();
    let (stores, others): (Vec<&Rewrite>, Vec<&Rewrite>) = rewrites
        .iter()
        .partition(|r| r.access.opcode() == Some(Opcode::LLVMStore));
    for r in stores {
        let (store, kind) = (r.access, r.kind);
        if !counting(kind) && kind != FieldKind::Unique {
            continue;
        }
        let Some(addition) = addition(store).filter(|a| countable(a.load)) else {
            report.unsupported(
                function,
                store,
                &format!("store to a {kind} field that is no addition: an ordinary write"),
            );
            continue;
        };
        if kind == FieldKind::Unique {
            match unique(runtime, marks, store, &addition) {
                true => done.push(addition.load),
                false => report.unsupported(
                    function,
                    store,
                    "addition to a unique field in several steps: an ordinary write",
                ),
            }
            continue;
        }
        if add(runtime, store, &addition, kind) {
            marks.set(addition.load, PLAIN);
            done.push(addition.load);
        }
    }
    // What the stores needed may be gone: look at the opcode only of what is still there.
    for r in others.into_iter().filter(|r| !done.contains(&r.access)) {
        let (access, kind) = (r.access, r.kind);
        match access.opcode() {
            Some(Opcode::LLVMLoad) if counting(kind) && countable(access) => {
                read(runtime, access, kind)
            }
            Some(Opcode::LLVMLoad | Opcode::LLVMAtomicRMW) if kind == FieldKind::Unique => {
                marks.set(
                    access,
                    Mark {
                        kind: Kind::Racy,
                        residue: None,
                    },
                );
            }
            Some(Opcode::LLVMAtomicRMW) if counting(kind) => {
                if !atomic(runtime, marks, access, kind) {
                    report.unsupported(function, access, &format!("atomic operation on a {kind} field that is no addition: an ordinary write"));
                }
            }
            Some(Opcode::LLVMAtomicCmpXchg) if kind != FieldKind::PerThread => {
                report.unsupported(
                    function,
                    access,
                    &format!("compare-exchange of a {kind} field: an ordinary write"),
                );
            }
            _ => {}
        }
    }
}

fn countable(value: Value) -> bool {
    matches!(value.ty().int_width(), Some(32 | 64))
}

/// Recognises `store (load p) + n, p`, also by way of local variables.
fn addition(store: Value) -> Option<Addition> {
    let sum = trace(store.operand(0));
    let direct = sum == store.operand(0);
    let minus = match sum.opcode()? {
        Opcode::LLVMAdd => false,
        Opcode::LLVMSub => true,
        _ => return None,
    };
    for (a, b) in [(0, 1), (1, 0)] {
        if minus && a == 1 {
            return None;
        }
        let load = trace(sum.operand(a));
        if load.opcode() != Some(Opcode::LLVMLoad) || !same(load.operand(0), store.operand(1), 8) {
            continue;
        }
        let n = sum.operand(b);
        let delta = match n.as_i64() {
            Some(n) => Delta::Constant(if minus { n.wrapping_neg() } else { n }),
            // A value reached through a variable need not be available at the store.
            None if !direct => return None,
            None if minus => Delta::Minus(n),
            None => Delta::Plus(n),
        };
        return Some(Addition { load, sum, delta });
    }
    None
}

/// Follows a load from a local variable that is stored once.
fn trace(value: Value) -> Value {
    let mut at = value;
    for _ in 0..8 {
        if at.opcode() != Some(Opcode::LLVMLoad)
            || at.operand(0).opcode() != Some(Opcode::LLVMAlloca)
        {
            return at;
        }
        match stored_values(at.operand(0)).as_deref() {
            Some(&[one]) => at = one,
            _ => return at,
        }
    }
    at
}

/// Whether two pointers are surely equal.
fn same(a: Value, b: Value, depth: u32) -> bool {
    if a == b {
        return true;
    }
    if depth == 0 {
        return false;
    }
    let (a, b) = (trace(a), trace(b));
    if a == b {
        return true;
    }
    match (a.opcode(), b.opcode()) {
        (Some(Opcode::LLVMGetElementPtr), Some(Opcode::LLVMGetElementPtr)) => {
            a.operands() == b.operands()
                && a.gep_source() == b.gep_source()
                && (1..a.operands())
                    .all(|i| a.operand(i) == b.operand(i) && a.operand(i).is_constant())
                && same(a.operand(0), b.operand(0), depth - 1)
        }
        (Some(Opcode::LLVMCall), Some(Opcode::LLVMCall)) => {
            let annotation = |c: Value| {
                c.callee().is_function() && c.callee().name().starts_with("llvm.ptr.annotation")
            };
            annotation(a) && annotation(b) && same(a.operand(0), b.operand(0), depth - 1)
        }
        _ => false,
    }
}

fn function_name(kind: FieldKind, bits: u32, add: bool) -> &'static str {
    match (kind == FieldKind::Refcount, bits, add) {
        (true, 32, true) => sym::REFCOUNT_ADD32,
        (true, _, true) => sym::REFCOUNT_ADD64,
        (true, 32, false) => sym::REFCOUNT_READ32,
        (true, _, false) => sym::REFCOUNT_READ64,
        (false, 32, true) => sym::COUNTER_ADD32,
        (false, _, true) => sym::COUNTER_ADD64,
        (false, 32, false) => sym::COUNTER_READ32,
        (false, _, false) => sym::COUNTER_READ64,
    }
}

/// Two ways from before `at` to after it: in a transaction a call of `name`, else `at` itself.
/// Returns the call's result as seen after, merged with `plain`.
fn either(
    runtime: &mut Runtime,
    at: Value,
    name: &'static str,
    arguments: impl FnOnce(&Runtime) -> Vec<Value>,
    plain: Value,
    adjust: impl FnOnce(&Runtime, Value) -> Value,
) -> Option<Value> {
    let next = at.next()?;
    let condition = {
        runtime.builder.before(at);
        runtime.in_transaction()
    };
    let (cold, plain_block) = runtime.cold_before(at, |_| condition);
    let join = crate::ffi::Block::split_before(next);
    let arguments = arguments(runtime);
    let result = runtime.call(name, &arguments);
    let result = adjust(runtime, result);
    runtime.builder.branch(join);
    runtime.builder.before(join.first()?);
    Some(
        runtime
            .builder
            .phi(plain.ty(), &[(plain, plain_block), (result, cold)]),
    )
}

/// Rewrites the store of an addition; true when its load is no longer needed.
fn add(runtime: &mut Runtime, store: Value, a: &Addition, kind: FieldKind) -> bool {
    let stored = store.operand(0);
    let bits = stored.ty().int_width().unwrap_or(64);
    runtime.builder.before(store);
    let amount = match a.delta {
        Delta::Constant(n) => stored.ty().int(n as u64),
        Delta::Plus(v) => v,
        Delta::Minus(v) => runtime
            .builder
            .binary(Opcode::LLVMSub, stored.ty().int(0), v),
    };
    let name = function_name(kind, bits, true);
    let after = runtime.count_marker(name, stored.ty(), &[store.operand(1), amount]);
    // After the store the new count is what the call says.
    let block = store.block();
    let later: Vec<Value> = std::iter::successors(store.next(), |i| i.next()).collect();
    store.erase();
    let users: Vec<Value> = stored.users().collect();
    let mut all = stored == a.sum;
    for user in users {
        if user.is_instruction()
            && user.block() == block
            && user.opcode() != Some(Opcode::LLVMPHI)
            && later.contains(&user)
        {
            replace_operand(user, stored, after);
        } else {
            all = false;
        }
    }
    all && a.load.users().all(|u| u == a.sum)
}

fn read(runtime: &mut Runtime, load: Value, kind: FieldKind) {
    let bits = load.ty().int_width().unwrap_or(64);
    runtime.builder.before(load);
    let name = function_name(kind, bits, false);
    let value = runtime.count_marker(name, load.ty(), &[load.operand(0)]);
    load.replace_with(value);
    load.erase();
}

fn replace_operand(user: Value, from: Value, to: Value) {
    for i in 0..user.operands() {
        if user.operand(i) == from {
            user.set_operand(i, to);
        }
    }
}

/// `atomicrmw add` and `sub`, whose result is the old value.
fn atomic(runtime: &mut Runtime, marks: &Marks, rmw: Value, kind: FieldKind) -> bool {
    let minus = match rmw.rmw_operation() {
        RmwOp::LLVMAtomicRMWBinOpAdd => false,
        RmwOp::LLVMAtomicRMWBinOpSub => true,
        _ => return false,
    };
    if !countable(rmw) {
        return false;
    }
    let bits = rmw.ty().int_width().unwrap_or(64);
    let (pointer, n) = (rmw.operand(0), rmw.operand(1));
    let users: Vec<Value> = rmw.users().collect();
    let signed = |r: &Runtime| match minus {
        true => r.builder.binary(Opcode::LLVMSub, n.ty().int(0), n),
        false => n,
    };
    let undo = if minus {
        Opcode::LLVMAdd
    } else {
        Opcode::LLVMSub
    };
    let name = function_name(kind, bits, true);
    let after = either(
        runtime,
        rmw,
        name,
        |r| vec![pointer, signed(r)],
        rmw,
        |r, new| r.builder.binary(undo, new, n),
    );
    let Some(after) = after else { return false };
    marks.set(rmw, PLAIN);
    for user in users {
        for i in 0..user.operands() {
            if user.operand(i) == rmw {
                user.set_operand(i, after);
            }
        }
    }
    true
}

/// `old = field; field = old + n` in one block becomes one atomic addition.
fn unique(runtime: &mut Runtime, marks: &Marks, store: Value, a: &Addition) -> bool {
    let Delta::Constant(n) = a.delta else {
        return false;
    };
    if a.load.block() != store.block() || !same(a.load.operand(0), store.operand(1), 8) {
        return false;
    }
    runtime.builder.before(a.load);
    let rmw = runtime.builder.atomic_rmw(
        RmwOp::LLVMAtomicRMWBinOpAdd,
        a.load.operand(0),
        a.load.ty().int(n as u64),
        Ordering::LLVMAtomicOrderingSequentiallyConsistent,
    );
    marks.set(
        rmw,
        Mark {
            kind: Kind::Racy,
            residue: None,
        },
    );
    a.load.replace_with(rmw);
    store.erase();
    a.load.erase();
    true
}
