//! The module that is being compiled.

use super::{
    ame_shim_append_constructor, ame_shim_constant_offset, ame_shim_keep,
    ame_shim_pointer_alignment, bytes, Block, Type, Value,
};
use llvm_sys::core::*;
use llvm_sys::prelude::*;
use llvm_sys::target::*;
use llvm_sys::{LLVMLinkage, LLVMThreadLocalMode};
use std::ffi::{CStr, CString};

/// The module that is being compiled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Module(pub(super) LLVMModuleRef);

// SAFETY of all blocks: live handles (module docs).
impl Module {
    pub(super) fn from_raw(raw: LLVMModuleRef) -> Module {
        Module(raw)
    }
    fn context(self) -> LLVMContextRef {
        unsafe { LLVMGetModuleContext(self.0) }
    }
    pub fn name<'a>(self) -> &'a [u8] {
        let mut len = 0;
        unsafe {
            let data = LLVMGetModuleIdentifier(self.0, &mut len);
            bytes(data, len)
        }
    }
    pub fn triple(self) -> String {
        unsafe { CStr::from_ptr(LLVMGetTarget(self.0)) }
            .to_string_lossy()
            .into_owned()
    }
    pub fn functions(self) -> impl Iterator<Item = Value> {
        std::iter::successors(Value::wrap(unsafe { LLVMGetFirstFunction(self.0) }), |f| {
            Value::wrap(unsafe { LLVMGetNextFunction(f.0) })
        })
    }
    pub fn globals(self) -> impl Iterator<Item = Value> {
        std::iter::successors(Value::wrap(unsafe { LLVMGetFirstGlobal(self.0) }), |g| {
            Value::wrap(unsafe { LLVMGetNextGlobal(g.0) })
        })
    }
    /// Functions that the dynamic loader calls to choose the target of an ifunc.
    pub fn ifunc_resolvers(self) -> impl Iterator<Item = Value> {
        std::iter::successors(
            Value::wrap(unsafe { LLVMGetFirstGlobalIFunc(self.0) }),
            |i| Value::wrap(unsafe { LLVMGetNextGlobalIFunc(i.0) }),
        )
        .filter_map(|i| Value::wrap(unsafe { LLVMGetGlobalIFuncResolver(i.0) }))
    }
    pub fn function(self, name: &str) -> Option<Value> {
        let name = CString::new(name).ok()?;
        Value::wrap(unsafe { LLVMGetNamedFunction(self.0, name.as_ptr()) })
    }
    pub fn global(self, name: &str) -> Option<Value> {
        let name = CString::new(name).ok()?;
        Value::wrap(unsafe { LLVMGetNamedGlobal(self.0, name.as_ptr()) })
    }
    pub fn add_function(self, name: &str, ty: Type) -> Value {
        let name = CString::new(name).unwrap_or_default();
        Value(unsafe { LLVMAddFunction(self.0, name.as_ptr(), ty.0) })
    }
    /// The function of this name; declared with the type when the module has none.
    pub fn declared(self, name: &str, ty: Type) -> Value {
        self.function(name)
            .unwrap_or_else(|| self.add_function(name, ty))
    }
    pub fn add_global(self, name: &str, ty: Type) -> Value {
        let name = CString::new(name).unwrap_or_default();
        Value(unsafe { LLVMAddGlobal(self.0, ty.0, name.as_ptr()) })
    }
    /// An external thread-local variable of the initial-exec model.
    pub fn add_initial_exec(self, name: &str, ty: Type) -> Value {
        let global = self.add_global(name, ty);
        unsafe {
            LLVMSetThreadLocalMode(global.0, LLVMThreadLocalMode::LLVMInitialExecTLSModel);
            LLVMSetLinkage(global.0, LLVMLinkage::LLVMExternalLinkage);
        }
        global
    }
    /// A private constant.
    pub fn add_constant(self, value: Value) -> Value {
        let global = self.add_global("ame.constant", value.ty());
        unsafe {
            LLVMSetInitializer(global.0, value.0);
            LLVMSetGlobalConstant(global.0, 1);
            LLVMSetLinkage(global.0, LLVMLinkage::LLVMPrivateLinkage);
        }
        global
    }
    /// A variable of this file.
    pub fn add_variable(self, name: &str, value: Value) -> Value {
        let global = self.add_global(name, value.ty());
        unsafe {
            LLVMSetInitializer(global.0, value.0);
            LLVMSetLinkage(global.0, LLVMLinkage::LLVMInternalLinkage);
        }
        global
    }
    pub fn int(self, bits: u32) -> Type {
        Type(unsafe { LLVMIntTypeInContext(self.context(), bits) })
    }
    pub fn pointer(self) -> Type {
        self.pointer_in(0)
    }
    pub fn pointer_in(self, address_space: u32) -> Type {
        Type(unsafe { LLVMPointerTypeInContext(self.context(), address_space) })
    }
    pub fn void(self) -> Type {
        Type(unsafe { LLVMVoidTypeInContext(self.context()) })
    }
    pub fn struct_type(self, fields: &[Type]) -> Type {
        let mut raw: Vec<LLVMTypeRef> = fields.iter().map(|t| t.0).collect();
        Type(unsafe {
            LLVMStructTypeInContext(self.context(), raw.as_mut_ptr(), raw.len() as u32, 0)
        })
    }
    pub fn const_struct(self, fields: &[Value]) -> Value {
        let mut raw: Vec<LLVMValueRef> = fields.iter().map(|v| v.0).collect();
        Value(unsafe {
            LLVMConstStructInContext(self.context(), raw.as_mut_ptr(), raw.len() as u32, 0)
        })
    }
    pub fn const_array(self, element: Type, values: &[Value]) -> Value {
        let mut raw: Vec<LLVMValueRef> = values.iter().map(|v| v.0).collect();
        Value(unsafe { LLVMConstArray2(element.0, raw.as_mut_ptr(), raw.len() as u64) })
    }
    pub fn const_bytes(self, text: &[u8]) -> Value {
        Value(unsafe {
            LLVMConstStringInContext2(self.context(), text.as_ptr().cast(), text.len(), 0)
        })
    }
    pub fn append_block(self, function: Value, name: &str) -> Block {
        let name = CString::new(name).unwrap_or_default();
        Block(unsafe { LLVMAppendBasicBlockInContext(self.context(), function.0, name.as_ptr()) })
    }
    /// Bytes that a store of the type writes.
    pub fn store_size(self, ty: Type) -> u64 {
        unsafe { LLVMStoreSizeOfType(LLVMGetModuleDataLayout(self.0), ty.0) }
    }
    /// Bytes from one array element of the type to the next.
    pub fn alloc_size(self, ty: Type) -> u64 {
        unsafe { LLVMABISizeOfType(LLVMGetModuleDataLayout(self.0), ty.0) }
    }
    pub fn field_offset(self, ty: Type, index: u32) -> u64 {
        unsafe { LLVMOffsetOfElement(LLVMGetModuleDataLayout(self.0), ty.0, index) }
    }
    /// Sum of a GEP's indices in bytes, if they are constant.
    pub fn gep_offset(self, gep: Value) -> Option<i64> {
        let mut offset = 0;
        unsafe { ame_shim_constant_offset(self.0, gep.0, &mut offset) }.then_some(offset)
    }
    /// What LLVM knows about the alignment of a pointer.
    pub fn pointer_alignment(self, pointer: Value) -> u64 {
        unsafe { ame_shim_pointer_alignment(pointer.0, self.0) }
    }
    pub fn metadata_kind(self, name: &str) -> u32 {
        unsafe { LLVMGetMDKindIDInContext(self.context(), name.as_ptr().cast(), name.len() as u32) }
    }
    /// Metadata node of strings, as a value that `Value::set_metadata` takes.
    pub fn string_node(self, words: &[&str]) -> Value {
        let context = self.context();
        let mut raw: Vec<LLVMMetadataRef> = words
            .iter()
            .map(|w| unsafe { LLVMMDStringInContext2(context, w.as_ptr().cast(), w.len()) })
            .collect();
        unsafe {
            let node = LLVMMDNodeInContext2(context, raw.as_mut_ptr(), raw.len());
            Value(LLVMMetadataAsValue(context, node))
        }
    }
    /// `!{!"branch_weights", i32 taken, i32 otherwise}`.
    pub fn branch_weights(self, taken: u32, otherwise: u32) -> Value {
        let context = self.context();
        let word = "branch_weights";
        unsafe {
            let i32t = LLVMInt32TypeInContext(context);
            let mut raw = [
                LLVMMDStringInContext2(context, word.as_ptr().cast(), word.len()),
                LLVMValueAsMetadata(LLVMConstInt(i32t, taken.into(), 0)),
                LLVMValueAsMetadata(LLVMConstInt(i32t, otherwise.into(), 0)),
            ];
            let node = LLVMMDNodeInContext2(context, raw.as_mut_ptr(), raw.len());
            Value(LLVMMetadataAsValue(context, node))
        }
    }
    /// Whether the code is for a program: a shared library cannot use it.
    pub fn is_of_program(self) -> bool {
        let flag = |name: &[u8]| unsafe {
            !LLVMGetModuleFlag(self.0, name.as_ptr().cast(), name.len()).is_null()
        };
        flag(b"PIE Level") || !flag(b"PIC Level")
    }
    /// Assembly of the file outside of functions.
    pub fn append_assembly(self, text: &str) {
        unsafe { LLVMAppendModuleInlineAsm(self.0, text.as_ptr().cast(), text.len()) }
    }
    pub fn has_named_metadata(self, name: &str) -> bool {
        !unsafe { LLVMGetNamedMetadata(self.0, name.as_ptr().cast(), name.len()) }.is_null()
    }
    pub fn add_named_metadata(self, name: &str, node: Value) {
        let Ok(name) = CString::new(name) else { return };
        unsafe { LLVMAddNamedMetadataOperand(self.0, name.as_ptr(), node.0) }
    }
    /// In all initial values: where a struct of this name has `function` as its field `index` (and `key` as
    /// its first field), it gets `by` instead.
    pub fn replace_field(
        self,
        (struct_name, index): (&str, u32),
        key: Option<u32>,
        function: Value,
        by: Value,
    ) {
        let name = CString::new(struct_name).unwrap_or_default();
        let key = key.map_or(-1, i64::from);
        unsafe {
            super::ame_shim_replace_field(self.0, name.as_ptr(), index, key, function.0, by.0);
        }
    }
    /// Keeps a function, with its arguments, through all optimisations.
    pub fn keep(self, function: Value) {
        unsafe { ame_shim_keep(function.0) }
    }
    pub fn append_constructor(self, function: Value, priority: i32) {
        unsafe { ame_shim_append_constructor(self.0, function.0, priority) }
    }
}
