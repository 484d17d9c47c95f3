//! The only module with `unsafe`: LLVM's C API and the C++ shim behind small copyable handles.
//!
//! A handle ([`Value`], [`Type`], [`Block`], [`Module`]) is a pointer into the module that LLVM has
//! passed to [`crate::plugin`]. It is valid while that call runs and until the thing is erased; the
//! rest of the pass keeps no handle to what it erases and none beyond the call. That is the
//! contract which the SAFETY notes here refer to as "live handle". LLVM runs the passes of one
//! module on one thread, so handles are neither `Send` nor `Sync`.

mod block;
mod builder;
mod debug;
mod module;
mod plugin;
mod types;
mod value;

pub use block::Block;
pub use builder::Builder;
pub use module::Module;
pub use plugin::option;
pub use types::Type;
pub use value::{attribute_kind, Value};

pub use llvm_sys::{
    LLVMAtomicOrdering as Ordering, LLVMAtomicRMWBinOp as RmwOp, LLVMIntPredicate as IntPredicate,
    LLVMOpcode as Opcode,
};

use llvm_sys::prelude::*;
use std::ffi::{c_char, c_int, c_uint, c_void};

extern "C" {
    fn ame_shim_register(builder: *mut c_void);
    fn ame_shim_option(which: c_int) -> *const c_char;
    fn ame_shim_fatal(message: *const c_char) -> !;
    fn ame_shim_diagnose(
        function: LLVMValueRef,
        instruction: LLVMValueRef,
        message: *const c_char,
        error: bool,
    );
    fn ame_shim_set_group(access: LLVMValueRef, group: u32);
    fn ame_shim_group(access: LLVMValueRef) -> i32;
    fn ame_shim_split(at: LLVMValueRef) -> LLVMBasicBlockRef;
    fn ame_shim_move_before(instruction: LLVMValueRef, at: LLVMValueRef);
    fn ame_shim_first_insertion_point(block: LLVMBasicBlockRef) -> LLVMValueRef;
    fn ame_shim_constant_offset(module: LLVMModuleRef, gep: LLVMValueRef, offset: *mut i64)
        -> bool;
    fn ame_shim_no_capture(call: LLVMValueRef, argument: c_uint) -> bool;
    fn ame_shim_memory_effects(call: LLVMValueRef) -> u32;
    fn ame_shim_pointer_alignment(pointer: LLVMValueRef, module: LLVMModuleRef) -> u64;
    fn ame_shim_interposable(global: LLVMValueRef) -> bool;
    fn ame_shim_clone_function(function: LLVMValueRef) -> LLVMValueRef;
    fn ame_shim_keep(function: LLVMValueRef);
    fn ame_shim_take_place(function: LLVMValueRef, suffix: *const c_char) -> LLVMValueRef;
    fn ame_shim_tail_call(builder: LLVMBuilderRef, callee: LLVMValueRef);
    fn ame_shim_forward_call(builder: LLVMBuilderRef, callee: LLVMValueRef) -> LLVMValueRef;
    fn ame_shim_address_taken(function: LLVMValueRef) -> bool;
    fn ame_shim_only_in_structs(
        function: LLVMValueRef,
        names: *const *const c_char,
        n: usize,
    ) -> bool;
    fn ame_shim_replace_addresses(function: LLVMValueRef, by: LLVMValueRef);
    fn ame_shim_replace_outside(function: LLVMValueRef, by: LLVMValueRef, prefix: *const c_char);
    fn ame_shim_replace_field(
        module: LLVMModuleRef,
        type_name: *const c_char,
        index: c_uint,
        key: i64,
        function: LLVMValueRef,
        by: LLVMValueRef,
    ) -> bool;
    fn ame_shim_invoke_to_call(invoke: LLVMValueRef) -> LLVMValueRef;
    fn ame_shim_append_constructor(module: LLVMModuleRef, function: LLVMValueRef, priority: c_int);
}

/// Bytes of a string that LLVM owns.
///
/// # Safety
/// `data` points to `len` bytes that live as long as the module and are not changed meanwhile.
unsafe fn bytes<'a>(data: *const c_char, len: usize) -> &'a [u8] {
    if data.is_null() {
        return &[];
    }
    // SAFETY: the caller's contract.
    unsafe { std::slice::from_raw_parts(data.cast(), len) }
}
