//! What memory an access is of: a variable, or a field of an object.

use super::Context;
use crate::ffi::{Opcode, Value};

/// Memory with a name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Memory {
    /// At a byte of a global variable; `None`: somewhere in it.
    Global(Value, Option<i64>),
    /// At a byte of the struct that `base` points to.
    Field {
        base: Value,
        ty: &'static str,
        offset: u64,
    },
}

/// The memory that a pointer points into, if it is a variable of the program or a field of a named struct.
pub fn memory(context: &Context, pointer: Value) -> Option<Memory> {
    let mut at = pointer;
    let mut offset = Some(0i64);
    let mut field = None;
    while at.opcode() == Some(Opcode::LLVMGetElementPtr) {
        let add = context.module.gep_offset(at);
        offset = offset.zip(add).map(|(sum, add)| sum + add);
        let source = at.gep_source();
        let steps_in = at.operands() > 2 && at.operand(1).as_u64() == Some(0);
        if let (Some(name), true) = (source.struct_name(), steps_in) {
            // An element of an array in the struct counts as the array.
            let within = match offset {
                Some(sum) => u64::try_from(sum).ok(),
                None => at
                    .operand(2)
                    .as_u64()
                    .map(|index| context.module.field_offset(source, index as u32)),
            };
            field = within.map(|within| (at.operand(0), name, within));
        } else if at.operands() == 2 && source.is_struct() {
            // One of several structs: which one is the base's affair.
            break;
        }
        at = at.operand(0);
    }
    if at.is_global_variable() && !at.is_thread_local() && !at.is_constant_global() {
        return Some(Memory::Global(at, offset));
    }
    let (base, name, offset) = field?;
    Some(Memory::Field {
        base,
        ty: name,
        offset,
    })
}

/// A struct's name without its kind: `struct.Node` is `Node`; numbers that LLVM appends are gone.
pub fn plain_name(ir: &str) -> &str {
    let name = ir.split_once('.').map_or(ir, |(_, name)| name);
    match name.rsplit_once('.') {
        Some((name, number)) if number.chars().all(|c| c.is_ascii_digit()) => name,
        _ => name,
    }
}

/// As people write it; nothing when it is Python's.
pub fn shown(context: &Context, memory: Memory) -> Option<String> {
    match memory {
        Memory::Global(variable, offset) => {
            let declaration = variable.declaration()?;
            let inside = offset
                .filter(|_| variable.value_type().is_struct())
                .zip(variable.value_type().struct_name())
                .and_then(|(offset, name)| {
                    context.own_field(plain_name(name), u64::try_from(offset).ok()?)
                });
            Some(match inside {
                Some(field) => format!("{}.{field}", declaration.name),
                None => declaration.name,
            })
        }
        Memory::Field { ty, offset, .. } => {
            let name = plain_name(ty);
            let field = context.own_field(name, offset)?;
            Some(format!("{name}.{field}"))
        }
    }
}
