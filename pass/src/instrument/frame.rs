//! Stack memory whose address leaves the function gets granules of its own.
//!
//! Another thread's transaction may write it, and roll back the whole granule. Beside it there must
//! not be what this function writes without barriers: other locals, saved registers.

use crate::analysis::escape::Escapes;
use crate::ffi::{Opcode, Value};
use crate::instrument::runtime::Runtime;
use ame_abi::GRANULE;

/// Aligns and pads the escaping allocas of `function`; returns how many.
pub fn separate(runtime: &Runtime, function: Value, escapes: &mut Escapes) -> u64 {
    let allocas: Vec<Value> = function
        .blocks()
        .flat_map(|b| b.instructions())
        .filter(|i| i.opcode() == Some(Opcode::LLVMAlloca))
        .collect();
    let mut changed = 0;
    for alloca in allocas {
        if !escapes.escapes(alloca) {
            continue;
        }
        changed += 1;
        let granule = GRANULE as u64;
        let align = alloca.alignment().max(granule) as u32;
        alloca.set_alignment(align);
        let ty = alloca.allocated_type();
        // The size of a variable-length array is rounded up by the stack alignment anyway.
        let Some(count) = alloca.operand(0).as_u64().filter(|_| ty.is_sized()) else {
            continue;
        };
        let size = count.saturating_mul(runtime.module.alloc_size(ty));
        if size % granule == 0 {
            continue;
        }
        runtime.builder.before(alloca);
        let padded = runtime
            .builder
            .alloca(runtime.i8.array(size.next_multiple_of(granule)));
        padded.set_alignment(align);
        alloca.replace_with(padded);
        alloca.erase();
    }
    changed
}

/// The same for variables of the module that change.
pub fn separate_variables(runtime: &Runtime) {
    for global in runtime.module.globals() {
        if !global.is_declaration()
            && !global.is_constant_global()
            && !global.is_thread_local()
            && !global.has_section()
            && !global.name().starts_with("llvm.")
            && global.alignment() < GRANULE as u64
        {
            global.set_alignment(GRANULE as u32);
        }
    }
}
