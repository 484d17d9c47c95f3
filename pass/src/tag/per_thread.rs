//! Memory of kind `per_thread`: the address becomes that of the thread's copy.

use super::points::Points;
use super::Rewrite;
use crate::ffi::{Opcode, Value};
use crate::instrument::runtime::Runtime;
use crate::report::Report;
use ame_abi::sym;
use ame_annotations::FieldKind;

/// Where the object begins of which every thread has a copy.
#[derive(Clone, Copy)]
pub enum Object {
    /// At this pointer; with its size.
    At(Value, u64),
    /// So many bytes before the accessed address; with its size.
    Before(u64, u64),
}

impl Object {
    pub fn new(points: &Points) -> Option<Object> {
        match points.object {
            Some((start, size)) => Some(Object::At(start, size)),
            None => points
                .field_extent()
                .map(|(before, size)| Object::Before(before, size)),
        }
    }
}

/// Redirects the accesses of a function.
pub fn rewrite(runtime: &mut Runtime, report: &mut Report, function: Value, rewrites: &[Rewrite]) {
    for r in rewrites.iter().filter(|r| r.kind == FieldKind::PerThread) {
        let at = r.access;
        let operand = u32::from(at.opcode() == Some(Opcode::LLVMStore));
        let pointer = at.operand(operand);
        runtime.builder.before(at);
        let (i8t, i64t) = (runtime.i8, runtime.i64);
        let object = r.object.filter(|o| match o {
            Object::At(start, _) => start.is_constant() || derived(pointer, *start),
            Object::Before(..) => true,
        });
        let mine = match object {
            Some(Object::At(start, size)) => {
                let copy = runtime.call(sym::PER_THREAD, &[start, i64t.int(size)]);
                if start == pointer {
                    copy
                } else {
                    let b = &runtime.builder;
                    let (to, from) = (b.ptr_to_int(pointer, i64t), b.ptr_to_int(start, i64t));
                    b.gep(i8t, copy, b.binary(Opcode::LLVMSub, to, from))
                }
            }
            Some(Object::Before(before, size)) => {
                let back = i64t.int((before as i64).wrapping_neg() as u64);
                let start = runtime.builder.gep(i8t, pointer, back);
                let copy = runtime.call(sym::PER_THREAD, &[start, i64t.int(size)]);
                runtime.builder.gep(i8t, copy, i64t.int(before))
            }
            None => {
                report.unsupported(
                    function,
                    at,
                    "memory of kind per_thread whose start is not known here: all threads share it",
                );
                continue;
            }
        };
        at.set_operand(operand, mine);
    }
}

/// Whether `pointer` is computed from `start` without going through memory, so that `start` is
/// available where `pointer` is.
fn derived(pointer: Value, start: Value) -> bool {
    let mut at = pointer;
    loop {
        if at == start {
            return true;
        }
        at = match at.opcode() {
            Some(Opcode::LLVMGetElementPtr | Opcode::LLVMBitCast) => at.operand(0),
            Some(Opcode::LLVMCall) if super::points::pointer_annotation(at).is_some() => {
                at.operand(0)
            }
            _ => return false,
        };
    }
}
