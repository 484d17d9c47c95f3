//! Barriers for zero-terminated strings.
//!
//! The length of a string that others may write is only known once the string is held for reading.
//! The helper function holds as much as the string has now, and looks again.

use super::plan::Mode;
use super::runtime::Runtime;
use crate::ffi::{IntPredicate, Value};
use ame_abi::sym;

const NAME: &str = "ame.text_barrier";

/// Calls the module's helper: barrier for the string at `pointer`, at most `most` bytes.
pub fn call(runtime: &mut Runtime, pointer: Value, most: Value, mode: Mode) {
    let ty = runtime.void.function(&[runtime.ptr, runtime.i64], false);
    let helper = match runtime.read_text {
        Some(known) => known,
        None => {
            let built = build(runtime);
            runtime.read_text = Some(built);
            built
        }
    };
    runtime.builder.call(ty, helper, &[pointer, most]);
    if mode != Mode::Read {
        // A string that is written in place: its length is now fixed by the read marks.
        let (strnlen, nty) = runtime.function("strnlen");
        let length = runtime.builder.call(nty, strnlen, &[pointer, most]);
        runtime.call(sym::WRITE_RANGE, &[pointer, length]);
    }
}

/// `void (p, most) { if (p) { held = 0; while ((n = strnlen(p, most)) + 1 > held) hold n + 1; } }`
fn build(runtime: &mut Runtime) -> Value {
    let outer = runtime.builder.block();
    let (ptr, i64t) = (runtime.ptr, runtime.i64);
    let ty = runtime.void.function(&[ptr, i64t], false);
    let module = runtime.module;
    let function = module.add_function(NAME, ty);
    function.set_internal();
    function.set_text_attribute(crate::attributes::KEY, "safe");
    function.add_function_attribute(crate::ffi::attribute_kind("noinline"));
    let parameters = function.parameters();
    let (pointer, most) = (parameters[0], parameters[1]);
    let entry = module.append_block(function, "entry");
    let again = module.append_block(function, "again");
    let hold = module.append_block(function, "hold");
    let done = module.append_block(function, "done");
    runtime.builder.forget_location();
    runtime.builder.at_end(entry);
    let none = runtime
        .builder
        .compare(IntPredicate::LLVMIntEQ, pointer, ptr.null());
    runtime.builder.branch_if(none, done, again);
    runtime.builder.at_end(again);
    let held = runtime.builder.phi(i64t, &[(i64t.int(0), entry)]);
    let (strnlen, nty) = runtime.function("strnlen");
    let length = runtime.builder.call(nty, strnlen, &[pointer, most]);
    // The terminating zero is read too, unless `most` ends the string.
    let ended = runtime
        .builder
        .compare(IntPredicate::LLVMIntULT, length, most);
    let extra = runtime.builder.int_cast(ended, i64t, false);
    let need = runtime
        .builder
        .binary(crate::ffi::Opcode::LLVMAdd, length, extra);
    let more = runtime
        .builder
        .compare(IntPredicate::LLVMIntUGT, need, held);
    runtime.builder.branch_if(more, hold, done);
    runtime.builder.at_end(hold);
    runtime.call(sym::READ_RANGE, &[pointer, need]);
    runtime.builder.branch(again);
    held.add_incoming(&[(need, hold)]);
    runtime.builder.at_end(done);
    runtime.builder.return_void();
    runtime.builder.at_end(outer);
    function
}
