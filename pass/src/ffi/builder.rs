//! Instruction builder.

use super::{Block, Type, Value};
use llvm_sys::core::*;
use llvm_sys::debuginfo::LLVMInstructionGetDebugLoc;
use llvm_sys::prelude::*;
use llvm_sys::{
    LLVMAtomicOrdering, LLVMAtomicRMWBinOp, LLVMInlineAsmDialect, LLVMIntPredicate, LLVMOpcode,
};
use std::ffi::c_char;

const NAMELESS: *const c_char = c"".as_ptr();

/// Builds instructions at one point, with the debug location of that point.
pub struct Builder(LLVMBuilderRef);

impl Drop for Builder {
    fn drop(&mut self) {
        // SAFETY: created by `Builder::new`.
        unsafe { LLVMDisposeBuilder(self.0) }
    }
}

// SAFETY of all blocks: live handles (module docs), positioned before anything is built; operand
// types are right by construction of the callers, which the IR verifier checks in the tests.
impl Builder {
    pub fn new(module: super::Module) -> Builder {
        Builder(unsafe { LLVMCreateBuilderInContext(LLVMGetModuleContext(module.0)) })
    }
    /// Before `at`, with its debug location.
    pub fn before(&self, at: Value) {
        unsafe { LLVMPositionBuilderBefore(self.0, at.0) };
        self.locate(at);
    }
    /// At the end of `block`; the debug location stays.
    pub fn at_end(&self, block: Block) {
        unsafe { LLVMPositionBuilderAtEnd(self.0, block.0) }
    }
    /// Uses the debug location of `like` from now on.
    pub fn locate(&self, like: Value) {
        unsafe {
            let location = LLVMInstructionGetDebugLoc(like.0);
            LLVMSetCurrentDebugLocation2(self.0, location);
        }
    }
    pub fn forget_location(&self) {
        unsafe { LLVMSetCurrentDebugLocation2(self.0, std::ptr::null_mut()) };
    }
    pub fn block(&self) -> Block {
        Block(unsafe { LLVMGetInsertBlock(self.0) })
    }
    pub fn ptr_to_int(&self, pointer: Value, ty: Type) -> Value {
        Value(unsafe { LLVMBuildPtrToInt(self.0, pointer.0, ty.0, NAMELESS) })
    }
    pub fn int_to_ptr(&self, address: Value, ty: Type) -> Value {
        Value(unsafe { LLVMBuildIntToPtr(self.0, address.0, ty.0, NAMELESS) })
    }
    pub fn binary(&self, op: LLVMOpcode, a: Value, b: Value) -> Value {
        Value(unsafe { LLVMBuildBinOp(self.0, op, a.0, b.0, NAMELESS) })
    }
    pub fn compare(&self, predicate: LLVMIntPredicate, a: Value, b: Value) -> Value {
        Value(unsafe { LLVMBuildICmp(self.0, predicate, a.0, b.0, NAMELESS) })
    }
    pub fn select(&self, condition: Value, a: Value, b: Value) -> Value {
        Value(unsafe { LLVMBuildSelect(self.0, condition.0, a.0, b.0, NAMELESS) })
    }
    pub fn alloca(&self, ty: Type) -> Value {
        Value(unsafe { LLVMBuildAlloca(self.0, ty.0, NAMELESS) })
    }
    pub fn load(&self, ty: Type, pointer: Value, align: u32) -> Value {
        unsafe {
            let load = LLVMBuildLoad2(self.0, ty.0, pointer.0, NAMELESS);
            LLVMSetAlignment(load, align);
            Value(load)
        }
    }
    pub fn store(&self, value: Value, pointer: Value, align: u32) -> Value {
        unsafe {
            let store = LLVMBuildStore(self.0, value.0, pointer.0);
            LLVMSetAlignment(store, align);
            Value(store)
        }
    }
    pub fn gep(&self, element: Type, pointer: Value, index: Value) -> Value {
        let mut indices = [index.0];
        Value(unsafe {
            LLVMBuildGEP2(
                self.0,
                element.0,
                pointer.0,
                indices.as_mut_ptr(),
                1,
                NAMELESS,
            )
        })
    }
    pub fn inbounds_gep(&self, element: Type, pointer: Value, index: Value) -> Value {
        let mut indices = [index.0];
        Value(unsafe {
            LLVMBuildInBoundsGEP2(
                self.0,
                element.0,
                pointer.0,
                indices.as_mut_ptr(),
                1,
                NAMELESS,
            )
        })
    }
    pub fn call(&self, ty: Type, callee: Value, arguments: &[Value]) -> Value {
        let mut raw: Vec<LLVMValueRef> = arguments.iter().map(|v| v.0).collect();
        Value(unsafe {
            let n = raw.len() as u32;
            LLVMBuildCall2(self.0, ty.0, callee.0, raw.as_mut_ptr(), n, NAMELESS)
        })
    }
    pub fn branch(&self, to: Block) -> Value {
        Value(unsafe { LLVMBuildBr(self.0, to.0) })
    }
    pub fn branch_if(&self, condition: Value, then: Block, otherwise: Block) -> Value {
        Value(unsafe { LLVMBuildCondBr(self.0, condition.0, then.0, otherwise.0) })
    }
    /// A guaranteed tail call of a function of the same type with the same arguments, and its return.
    pub fn tail_call(&self, callee: Value) {
        unsafe { super::ame_shim_tail_call(self.0, callee.0) }
    }
    /// A call with the arguments of the current function, which has the same type.
    pub fn forward_call(&self, callee: Value) -> Value {
        Value(unsafe { super::ame_shim_forward_call(self.0, callee.0) })
    }
    pub fn ret(&self, value: Value) {
        unsafe { LLVMBuildRet(self.0, value.0) };
    }
    pub fn return_void(&self) {
        unsafe { LLVMBuildRetVoid(self.0) };
    }
    /// Returns what a call gave, which may be nothing.
    pub fn return_result(&self, result: Value) {
        if result.ty().is_void() {
            self.return_void();
        } else {
            self.ret(result);
        }
    }
    pub fn phi(&self, ty: Type, incoming: &[(Value, Block)]) -> Value {
        let mut values: Vec<LLVMValueRef> = incoming.iter().map(|i| i.0 .0).collect();
        let mut blocks: Vec<LLVMBasicBlockRef> = incoming.iter().map(|i| i.1 .0).collect();
        unsafe {
            let phi = LLVMBuildPhi(self.0, ty.0, NAMELESS);
            LLVMAddIncoming(
                phi,
                values.as_mut_ptr(),
                blocks.as_mut_ptr(),
                values.len() as u32,
            );
            Value(phi)
        }
    }
    pub fn extract_element(&self, vector: Value, index: Value) -> Value {
        Value(unsafe { LLVMBuildExtractElement(self.0, vector.0, index.0, NAMELESS) })
    }
    pub fn int_cast(&self, value: Value, ty: Type, signed: bool) -> Value {
        Value(unsafe { LLVMBuildIntCast2(self.0, value.0, ty.0, i32::from(signed), NAMELESS) })
    }
    pub fn atomic_rmw(
        &self,
        op: LLVMAtomicRMWBinOp,
        pointer: Value,
        operand: Value,
        ordering: LLVMAtomicOrdering,
    ) -> Value {
        Value(unsafe { LLVMBuildAtomicRMW(self.0, op, pointer.0, operand.0, ordering, 0) })
    }
    /// Call of inline assembly with side effects.
    pub fn assembly(&self, ty: Type, text: &str, constraints: &str, arguments: &[Value]) -> Value {
        self.assembly_with(ty, text, constraints, arguments, true)
    }
    /// Assembly whose result depends on the arguments only.
    pub fn pure_assembly(
        &self,
        ty: Type,
        text: &str,
        constraints: &str,
        arguments: &[Value],
    ) -> Value {
        self.assembly_with(ty, text, constraints, arguments, false)
    }
    fn assembly_with(
        &self,
        ty: Type,
        text: &str,
        constraints: &str,
        arguments: &[Value],
        effects: bool,
    ) -> Value {
        let callee = Value(unsafe {
            LLVMGetInlineAsm(
                ty.0,
                text.as_ptr().cast(),
                text.len(),
                constraints.as_ptr().cast(),
                constraints.len(),
                effects.into(),
                0,
                LLVMInlineAsmDialect::LLVMInlineAsmDialectATT,
                0,
            )
        });
        self.call(ty, callee, arguments)
    }
}
