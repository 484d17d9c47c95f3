//! Values: constants, functions, arguments, instructions.

use super::{
    ame_shim_clone_function, ame_shim_diagnose, ame_shim_interposable, ame_shim_memory_effects,
    ame_shim_move_before, ame_shim_no_capture, ame_shim_take_place, bytes, Block, Type,
};
use llvm_sys::core::*;
use llvm_sys::debuginfo::LLVMInstructionGetDebugLoc;
use llvm_sys::prelude::*;
use llvm_sys::{
    LLVMAtomicOrdering, LLVMAttributeFunctionIndex, LLVMLinkage, LLVMOpcode, LLVMTailCallKind,
    LLVMValueKind, LLVMVisibility,
};
use std::ffi::{CStr, CString};

/// A value of the module.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Value(pub(super) LLVMValueRef);

// SAFETY of all blocks: live handles (module docs), and LLVM's functions for a kind of value are
// called only after the kind was tested, here or by the caller through `opcode`.
impl Value {
    pub(super) fn wrap(raw: LLVMValueRef) -> Option<Value> {
        (!raw.is_null()).then_some(Value(raw))
    }
    pub fn ty(self) -> Type {
        Type(unsafe { LLVMTypeOf(self.0) })
    }
    fn kind(self) -> LLVMValueKind {
        unsafe { LLVMGetValueKind(self.0) }
    }
    pub fn name<'a>(self) -> &'a str {
        let mut len = 0;
        let name = unsafe {
            let data = LLVMGetValueName2(self.0, &mut len);
            bytes(data, len)
        };
        std::str::from_utf8(name).unwrap_or("?")
    }

    // --- kinds of values ---------------------------------------------------------------------
    pub fn is_instruction(self) -> bool {
        self.kind() == LLVMValueKind::LLVMInstructionValueKind
    }
    pub fn is_argument(self) -> bool {
        self.kind() == LLVMValueKind::LLVMArgumentValueKind
    }
    pub fn is_function(self) -> bool {
        self.kind() == LLVMValueKind::LLVMFunctionValueKind
    }
    pub fn is_global_variable(self) -> bool {
        self.kind() == LLVMValueKind::LLVMGlobalVariableValueKind
    }
    pub fn is_alias(self) -> bool {
        self.kind() == LLVMValueKind::LLVMGlobalAliasValueKind
    }
    pub fn is_inline_asm(self) -> bool {
        self.kind() == LLVMValueKind::LLVMInlineAsmValueKind
    }
    pub fn is_constant(self) -> bool {
        unsafe { LLVMIsConstant(self.0) != 0 }
    }
    pub fn is_null(self) -> bool {
        unsafe { LLVMIsNull(self.0) != 0 }
    }
    /// Opcode of an instruction or constant expression.
    pub fn opcode(self) -> Option<LLVMOpcode> {
        match self.kind() {
            LLVMValueKind::LLVMInstructionValueKind => {
                Some(unsafe { LLVMGetInstructionOpcode(self.0) })
            }
            LLVMValueKind::LLVMConstantExprValueKind => Some(unsafe { LLVMGetConstOpcode(self.0) }),
            _ => None,
        }
    }
    /// Value of an integer constant of at most 64 bits, zero extended.
    pub fn as_u64(self) -> Option<u64> {
        if self.kind() != LLVMValueKind::LLVMConstantIntValueKind
            || self.ty().int_width().is_none_or(|w| w > 64)
        {
            return None;
        }
        Some(unsafe { LLVMConstIntGetZExtValue(self.0) })
    }
    /// The same, sign extended.
    pub fn as_i64(self) -> Option<i64> {
        self.as_u64()
            .map(|_| unsafe { LLVMConstIntGetSExtValue(self.0) })
    }

    // --- operands and uses -------------------------------------------------------------------
    pub fn operands(self) -> u32 {
        unsafe { LLVMGetNumOperands(self.0) }.max(0) as u32
    }
    pub fn operand(self, index: u32) -> Value {
        debug_assert!(index < self.operands());
        Value(unsafe { LLVMGetOperand(self.0, index) })
    }
    pub fn set_operand(self, index: u32, value: Value) {
        unsafe { LLVMSetOperand(self.0, index, value.0) }
    }
    pub fn users(self) -> impl Iterator<Item = Value> {
        let mut next = unsafe { LLVMGetFirstUse(self.0) };
        std::iter::from_fn(move || {
            if next.is_null() {
                return None;
            }
            let user = unsafe { LLVMGetUser(next) };
            next = unsafe { LLVMGetNextUse(next) };
            Some(Value(user))
        })
    }
    pub fn has_uses(self) -> bool {
        !unsafe { LLVMGetFirstUse(self.0) }.is_null()
    }
    pub fn replace_with(self, other: Value) {
        unsafe { LLVMReplaceAllUsesWith(self.0, other.0) }
    }

    // --- instructions ------------------------------------------------------------------------
    pub fn block(self) -> Block {
        Block(unsafe { LLVMGetInstructionParent(self.0) })
    }
    pub fn next(self) -> Option<Value> {
        Value::wrap(unsafe { LLVMGetNextInstruction(self.0) })
    }
    pub fn erase(self) {
        unsafe { LLVMInstructionEraseFromParent(self.0) }
    }
    pub fn move_before(self, at: Value) {
        unsafe { ame_shim_move_before(self.0, at.0) }
    }
    pub fn successors(self) -> Vec<Block> {
        let n = unsafe { LLVMGetNumSuccessors(self.0) };
        (0..n)
            .map(|i| Block(unsafe { LLVMGetSuccessor(self.0, i) }))
            .collect()
    }
    /// Incoming edges of a phi.
    pub fn incoming(self) -> impl Iterator<Item = (Value, Block)> {
        let n = unsafe { LLVMCountIncoming(self.0) };
        (0..n).map(move |i| unsafe {
            (
                Value(LLVMGetIncomingValue(self.0, i)),
                Block(LLVMGetIncomingBlock(self.0, i)),
            )
        })
    }
    pub fn add_incoming(self, incoming: &[(Value, Block)]) {
        let mut values: Vec<LLVMValueRef> = incoming.iter().map(|i| i.0 .0).collect();
        let mut blocks: Vec<LLVMBasicBlockRef> = incoming.iter().map(|i| i.1 .0).collect();
        unsafe {
            LLVMAddIncoming(
                self.0,
                values.as_mut_ptr(),
                blocks.as_mut_ptr(),
                values.len() as u32,
            );
        }
    }
    /// Alignment of a load, store, atomic or alloca, or of a global; 0 when not given.
    pub fn alignment(self) -> u64 {
        unsafe { LLVMGetAlignment(self.0) }.into()
    }
    pub fn set_alignment(self, bytes: u32) {
        unsafe { LLVMSetAlignment(self.0, bytes) }
    }
    pub fn rmw_operation(self) -> llvm_sys::LLVMAtomicRMWBinOp {
        unsafe { LLVMGetAtomicRMWBinOp(self.0) }
    }
    /// Makes a load an atomic one with acquire ordering.
    pub fn set_acquire(self) {
        unsafe { LLVMSetOrdering(self.0, LLVMAtomicOrdering::LLVMAtomicOrderingAcquire) }
    }
    pub fn predicate(self) -> llvm_sys::LLVMIntPredicate {
        unsafe { LLVMGetICmpPredicate(self.0) }
    }
    /// Type that a GEP's indices walk.
    /// Whether an addition is undefined when it wraps around.
    pub fn never_wraps(self) -> bool {
        unsafe { LLVMGetNUW(self.0) != 0 || LLVMGetNSW(self.0) != 0 }
    }
    /// Whether a GEP stays inside its object.
    pub fn is_inbounds(self) -> bool {
        unsafe { LLVMIsInBounds(self.0) != 0 }
    }
    pub fn gep_source(self) -> Type {
        Type(unsafe { LLVMGetGEPSourceElementType(self.0) })
    }
    pub fn allocated_type(self) -> Type {
        Type(unsafe { LLVMGetAllocatedType(self.0) })
    }
    pub fn metadata(self, kind: u32) -> Option<Value> {
        Value::wrap(unsafe { LLVMGetMetadata(self.0, kind) })
    }
    /// Puts an access into one of the module's access groups.
    pub fn set_access_group(self, group: u32) {
        unsafe { super::ame_shim_set_group(self.0, group) }
    }
    /// The one it is in, if it is one of ours.
    pub fn access_group(self) -> Option<u32> {
        u32::try_from(unsafe { super::ame_shim_group(self.0) }).ok()
    }
    pub fn set_metadata(self, kind: u32, node: Value) {
        unsafe { LLVMSetMetadata(self.0, kind, node.0) }
    }
    /// Operands of a metadata node; missing ones are `None`.
    pub fn node_operands(self) -> Vec<Option<Value>> {
        unsafe {
            let n = LLVMGetMDNodeNumOperands(self.0) as usize;
            let mut raw = vec![std::ptr::null_mut(); n];
            LLVMGetMDNodeOperands(self.0, raw.as_mut_ptr());
            raw.into_iter().map(Value::wrap).collect()
        }
    }
    /// Whether this is a metadata node, as opposed to a string or a value in metadata.
    pub fn is_node(self) -> bool {
        !unsafe { LLVMIsAMDNode(self.0) }.is_null()
    }
    pub fn metadata_string<'a>(self) -> Option<&'a str> {
        if unsafe { LLVMIsAMDString(self.0) }.is_null() {
            return None;
        }
        let mut len = 0;
        let text = unsafe {
            let data = LLVMGetMDString(self.0, &mut len);
            bytes(data, len as usize)
        };
        std::str::from_utf8(text).ok()
    }
    /// Source file and line.
    pub fn location(self) -> Option<(String, u32)> {
        if !self.is_instruction() || unsafe { LLVMInstructionGetDebugLoc(self.0) }.is_null() {
            return None;
        }
        let mut len = 0;
        let file = unsafe {
            let data = LLVMGetDebugLocFilename(self.0, &mut len);
            bytes(data, len as usize)
        };
        let line = unsafe { LLVMGetDebugLocLine(self.0) };
        Some((String::from_utf8_lossy(file).into_owned(), line))
    }

    // --- calls -------------------------------------------------------------------------------
    pub fn callee(self) -> Value {
        Value(unsafe { LLVMGetCalledValue(self.0) })
    }
    pub fn arguments(self) -> u32 {
        unsafe { LLVMGetNumArgOperands(self.0) }
    }
    pub fn does_not_capture(self, argument: u32) -> bool {
        unsafe { ame_shim_no_capture(self.0, argument) }
    }
    pub fn call_argument_type(self, argument: u32, attribute: u32) -> Option<Type> {
        unsafe {
            let found = LLVMGetCallSiteEnumAttribute(self.0, argument + 1, attribute);
            (!found.is_null()).then(|| Type(LLVMGetTypeAttributeValue(found)))
        }
    }
    pub fn set_callee(self, callee: Value) {
        let last = self.operands() - 1;
        self.set_operand(last, callee);
    }
    pub fn is_must_tail(self) -> bool {
        unsafe { LLVMGetTailCallKind(self.0) == LLVMTailCallKind::LLVMTailCallKindMustTail }
    }
    /// A call from here on may not be a tail call.
    pub fn forbid_tail(self) {
        unsafe { LLVMSetTailCallKind(self.0, LLVMTailCallKind::LLVMTailCallKindNone) }
    }

    // --- globals and functions ---------------------------------------------------------------
    pub fn is_declaration(self) -> bool {
        unsafe { LLVMIsDeclaration(self.0) != 0 }
    }
    pub fn linkage(self) -> LLVMLinkage {
        unsafe { LLVMGetLinkage(self.0) }
    }
    /// Whether the body is only there for inlining.
    pub fn is_available_externally(self) -> bool {
        self.linkage() == LLVMLinkage::LLVMAvailableExternallyLinkage
    }
    pub fn is_internal(self) -> bool {
        matches!(
            self.linkage(),
            LLVMLinkage::LLVMInternalLinkage | LLVMLinkage::LLVMPrivateLinkage
        )
    }
    /// Whether other files may have the same function, of which the linker keeps one.
    pub fn may_have_copies(self) -> bool {
        matches!(
            self.linkage(),
            LLVMLinkage::LLVMLinkOnceAnyLinkage
                | LLVMLinkage::LLVMLinkOnceODRLinkage
                | LLVMLinkage::LLVMWeakAnyLinkage
                | LLVMLinkage::LLVMWeakODRLinkage
        )
    }
    pub fn set_internal(self) {
        unsafe { LLVMSetLinkage(self.0, LLVMLinkage::LLVMInternalLinkage) }
    }
    /// Known to the files that are linked together; `weak`: unless another has it, too.
    pub fn set_hidden(self, weak: bool) {
        let linkage = if weak {
            LLVMLinkage::LLVMWeakAnyLinkage
        } else {
            LLVMLinkage::LLVMExternalLinkage
        };
        unsafe {
            LLVMSetLinkage(self.0, linkage);
            LLVMSetVisibility(self.0, LLVMVisibility::LLVMHiddenVisibility);
        }
    }
    /// A declaration that is null where nobody defines it.
    pub fn set_weak_reference(self) {
        unsafe {
            LLVMSetLinkage(self.0, LLVMLinkage::LLVMExternalWeakLinkage);
            LLVMSetVisibility(self.0, LLVMVisibility::LLVMHiddenVisibility);
        }
    }
    /// Whether the linker may choose another body with other behaviour.
    pub fn is_interposable(self) -> bool {
        unsafe { ame_shim_interposable(self.0) }
    }
    pub fn is_constant_global(self) -> bool {
        unsafe { LLVMIsGlobalConstant(self.0) != 0 }
    }
    /// Whether the source chooses the section: then the linker may make an array of such variables.
    pub fn has_section(self) -> bool {
        let section = unsafe { LLVMGetSection(self.0) };
        !section.is_null() && unsafe { *section } != 0
    }
    pub fn is_thread_local(self) -> bool {
        unsafe { LLVMIsThreadLocal(self.0) != 0 }
    }
    pub fn value_type(self) -> Type {
        Type(unsafe { LLVMGlobalGetValueType(self.0) })
    }
    pub fn initializer(self) -> Option<Value> {
        Value::wrap(unsafe { LLVMGetInitializer(self.0) })
    }
    /// Bytes of a constant string, without its terminating zero.
    pub fn constant_string(self) -> Option<String> {
        if unsafe { LLVMIsConstantString(self.0) } == 0 {
            return None;
        }
        let mut len = 0;
        let text = unsafe {
            let data = LLVMGetAsString(self.0, &mut len);
            bytes(data, len)
        };
        let text = text.strip_suffix(b"\0").unwrap_or(text);
        Some(String::from_utf8_lossy(text).into_owned())
    }
    pub fn aliasee(self) -> Value {
        Value(unsafe { LLVMAliasGetAliasee(self.0) })
    }
    pub fn entry(self) -> Option<Block> {
        let block = unsafe { LLVMGetFirstBasicBlock(self.0) };
        (!block.is_null()).then_some(Block(block))
    }
    pub fn blocks(self) -> impl Iterator<Item = Block> {
        std::iter::successors(self.entry(), |b| b.next())
    }
    pub fn parameters(self) -> Vec<Value> {
        let n = unsafe { LLVMCountParams(self.0) };
        (0..n)
            .map(|i| Value(unsafe { LLVMGetParam(self.0, i) }))
            .collect()
    }
    /// Function that an argument belongs to.
    pub fn parameter_owner(self) -> Value {
        Value(unsafe { LLVMGetParamParent(self.0) })
    }
    /// Two bits (read, write) each for argument, inaccessible and other memory: what a function may do.
    pub fn memory_effects(self) -> u32 {
        unsafe { ame_shim_memory_effects(self.0) }
    }
    pub fn function_has(self, attribute: u32) -> bool {
        !unsafe { LLVMGetEnumAttributeAtIndex(self.0, LLVMAttributeFunctionIndex, attribute) }
            .is_null()
    }
    pub fn parameter_has(self, parameter: u32, attribute: u32) -> bool {
        !unsafe { LLVMGetEnumAttributeAtIndex(self.0, parameter + 1, attribute) }.is_null()
    }
    pub fn text_attribute<'a>(self, key: &str) -> Option<&'a str> {
        unsafe {
            let found = LLVMGetStringAttributeAtIndex(
                self.0,
                LLVMAttributeFunctionIndex,
                key.as_ptr().cast(),
                key.len() as u32,
            );
            if found.is_null() {
                return None;
            }
            let mut len = 0;
            let data = LLVMGetStringAttributeValue(found, &mut len);
            std::str::from_utf8(bytes(data, len as usize)).ok()
        }
    }
    pub fn set_text_attribute(self, key: &str, value: &str) {
        unsafe {
            let context = LLVMGetTypeContext(LLVMTypeOf(self.0));
            let attribute = LLVMCreateStringAttribute(
                context,
                key.as_ptr().cast(),
                key.len() as u32,
                value.as_ptr().cast(),
                value.len() as u32,
            );
            LLVMAddAttributeAtIndex(self.0, LLVMAttributeFunctionIndex, attribute);
        }
    }
    pub fn remove_text_attribute(self, key: &str) {
        unsafe {
            LLVMRemoveStringAttributeAtIndex(
                self.0,
                LLVMAttributeFunctionIndex,
                key.as_ptr().cast(),
                key.len() as u32,
            );
        }
    }
    pub fn add_function_attribute(self, attribute: u32) {
        self.add_function_attribute_value(attribute, 0);
    }
    pub fn add_function_attribute_value(self, attribute: u32, value: u64) {
        unsafe {
            let context = LLVMGetTypeContext(LLVMTypeOf(self.0));
            let attribute = LLVMCreateEnumAttribute(context, attribute, value);
            LLVMAddAttributeAtIndex(self.0, LLVMAttributeFunctionIndex, attribute);
        }
    }
    pub fn remove_function_attribute(self, attribute: u32) {
        unsafe {
            LLVMRemoveEnumAttributeAtIndex(self.0, LLVMAttributeFunctionIndex, attribute);
        }
    }
    /// A copy of a function with its body, in the same module; `None` when the addresses of its
    /// labels are known elsewhere.
    pub fn clone_function(self) -> Option<Value> {
        let copy = unsafe { ame_shim_clone_function(self.0) };
        (!copy.is_null()).then_some(Value(copy))
    }
    /// A new function without a body that takes over name, linkage, attributes and uses. This one
    /// becomes internal, its name longer by `suffix`.
    pub fn give_place(self, suffix: &CStr) -> Value {
        Value(unsafe { ame_shim_take_place(self.0, suffix.as_ptr()) })
    }
    /// Whether anybody but direct callers knows the function's address.
    pub fn is_address_taken(self) -> bool {
        unsafe { super::ame_shim_address_taken(self.0) }
    }
    /// Whether its address is given away by initial values of structs with these names only.
    pub fn is_only_in_structs(self, names: &[&CStr]) -> bool {
        let names: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        unsafe { super::ame_shim_only_in_structs(self.0, names.as_ptr(), names.len()) }
    }
    /// Puts another function where this one's address is given away; direct calls stay.
    pub fn replace_addresses(self, by: Value) {
        unsafe { super::ame_shim_replace_addresses(self.0, by.0) }
    }
    /// Puts another function in this one's place, but in functions whose name starts with `prefix`.
    pub fn replace_outside(self, by: Value, prefix: &CStr) {
        unsafe { super::ame_shim_replace_outside(self.0, by.0, prefix.as_ptr()) }
    }
    /// Makes a call of an invoke, whose callee does not throw.
    pub fn invoke_to_call(self) -> Value {
        Value(unsafe { super::ame_shim_invoke_to_call(self.0) })
    }
    pub fn copy_calling_convention(self, other: Value) {
        unsafe { LLVMSetFunctionCallConv(self.0, LLVMGetFunctionCallConv(other.0)) }
    }
    /// One in all files that are linked together, and known to them only.
    pub fn set_linkonce_hidden(self) {
        unsafe {
            LLVMSetLinkage(self.0, LLVMLinkage::LLVMLinkOnceODRLinkage);
            LLVMSetVisibility(self.0, LLVMVisibility::LLVMHiddenVisibility);
        }
    }
    pub fn set_section(self, name: &str) {
        let name = CString::new(name).unwrap_or_default();
        unsafe { LLVMSetSection(self.0, name.as_ptr()) }
    }
    pub fn set_name(self, name: &str) {
        unsafe { LLVMSetValueName2(self.0, name.as_ptr().cast(), name.len()) }
    }
    /// Removes a function from its module.
    pub fn delete_variable(self) {
        unsafe { LLVMDeleteGlobal(self.0) }
    }
    pub fn delete_function(self) {
        unsafe { LLVMDeleteFunction(self.0) }
    }
    /// Takes over the attributes of another function of the same type.
    pub fn copy_attributes(self, other: Value) {
        unsafe {
            let n = LLVMCountParams(other.0);
            let places = [LLVMAttributeFunctionIndex, 0].into_iter().chain(1..=n);
            for index in places {
                let count = LLVMGetAttributeCountAtIndex(other.0, index);
                let mut list = vec![std::ptr::null_mut(); count as usize];
                LLVMGetAttributesAtIndex(other.0, index, list.as_mut_ptr());
                for attribute in list {
                    LLVMAddAttributeAtIndex(self.0, index, attribute);
                }
            }
        }
    }
    pub fn has_prefix_data(self) -> bool {
        unsafe { LLVMHasPrefixData(self.0) != 0 }
    }
    pub fn set_prefix_data(self, data: Value) {
        unsafe { LLVMSetPrefixData(self.0, data.0) }
    }
    /// Inline assembly: text, constraints, whether it has side effects.
    pub fn assembly(self) -> (String, String, bool) {
        let (mut n, mut m) = (0, 0);
        unsafe {
            let text = LLVMGetInlineAsmAsmString(self.0, &mut n);
            let constraints = LLVMGetInlineAsmConstraintString(self.0, &mut m);
            (
                String::from_utf8_lossy(bytes(text, n)).into_owned(),
                String::from_utf8_lossy(bytes(constraints, m)).into_owned(),
                LLVMGetInlineAsmHasSideEffects(self.0) != 0,
            )
        }
    }
    /// Reports an error or warning at an instruction of this function through the compiler.
    pub fn diagnose(self, at: Option<Value>, message: &str, error: bool) {
        let text = CString::new(message).unwrap_or_default();
        let at = at.map_or(std::ptr::null_mut(), |v| v.0);
        unsafe { ame_shim_diagnose(self.0, at, text.as_ptr(), error) }
    }
}

/// Number of an enum attribute of this LLVM, by its name in IR.
pub fn attribute_kind(name: &str) -> u32 {
    // SAFETY: a pointer and its length.
    unsafe { LLVMGetEnumAttributeKindForName(name.as_ptr().cast(), name.len()) }
}
