//! Types.

use super::bytes;
use llvm_sys::core::*;
use llvm_sys::prelude::*;
use llvm_sys::LLVMTypeKind;

/// A type of the module's context.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Type(pub(super) LLVMTypeRef);

// SAFETY of all blocks: live handles (module docs), and LLVM's functions for a kind of type are
// called only after the kind was tested.
impl Type {
    pub fn kind(self) -> LLVMTypeKind {
        unsafe { LLVMGetTypeKind(self.0) }
    }
    pub fn is_void(self) -> bool {
        self.kind() == LLVMTypeKind::LLVMVoidTypeKind
    }
    pub fn is_pointer(self) -> bool {
        self.kind() == LLVMTypeKind::LLVMPointerTypeKind
    }
    /// Width in bits of an integer type.
    pub fn int_width(self) -> Option<u32> {
        (self.kind() == LLVMTypeKind::LLVMIntegerTypeKind)
            .then(|| unsafe { LLVMGetIntTypeWidth(self.0) })
    }
    pub fn address_space(self) -> u32 {
        if self.is_pointer() {
            unsafe { LLVMGetPointerAddressSpace(self.0) }
        } else {
            0
        }
    }
    /// Whether values of the type live in vector registers.
    pub fn is_float_or_vector(self) -> bool {
        use LLVMTypeKind::*;
        match self.kind() {
            LLVMHalfTypeKind
            | LLVMBFloatTypeKind
            | LLVMFloatTypeKind
            | LLVMDoubleTypeKind
            | LLVMFP128TypeKind
            | LLVMX86_FP80TypeKind
            | LLVMVectorTypeKind
            | LLVMScalableVectorTypeKind => true,
            LLVMStructTypeKind => (0..self.struct_fields())
                .any(|i| self.struct_field(i).is_some_and(Type::is_float_or_vector)),
            LLVMArrayTypeKind => self.element().is_some_and(Type::is_float_or_vector),
            _ => false,
        }
    }
    pub fn is_variadic(self) -> bool {
        self.kind() == LLVMTypeKind::LLVMFunctionTypeKind
            && unsafe { LLVMIsFunctionVarArg(self.0) != 0 }
    }
    pub fn is_vector(self) -> bool {
        self.kind() == LLVMTypeKind::LLVMVectorTypeKind || self.is_scalable_vector()
    }
    /// Number of lanes of a vector of fixed length.
    pub fn lanes(self) -> Option<u32> {
        (self.kind() == LLVMTypeKind::LLVMVectorTypeKind)
            .then(|| unsafe { LLVMGetVectorSize(self.0) })
    }
    pub fn is_scalable_vector(self) -> bool {
        self.kind() == LLVMTypeKind::LLVMScalableVectorTypeKind
    }
    /// Element type of an array or vector.
    pub fn element(self) -> Option<Type> {
        match self.kind() {
            LLVMTypeKind::LLVMArrayTypeKind
            | LLVMTypeKind::LLVMVectorTypeKind
            | LLVMTypeKind::LLVMScalableVectorTypeKind => {
                Some(Type(unsafe { LLVMGetElementType(self.0) }))
            }
            _ => None,
        }
    }
    pub fn is_struct(self) -> bool {
        self.kind() == LLVMTypeKind::LLVMStructTypeKind
    }
    pub fn struct_fields(self) -> u32 {
        if self.is_struct() {
            unsafe { LLVMCountStructElementTypes(self.0) }
        } else {
            0
        }
    }
    pub fn struct_field(self, index: u32) -> Option<Type> {
        (index < self.struct_fields())
            .then(|| Type(unsafe { LLVMStructGetTypeAtIndex(self.0, index) }))
    }
    /// Name of a struct: `struct._object`, `union.anon.3`.
    pub fn struct_name<'a>(self) -> Option<&'a str> {
        if !self.is_struct() {
            return None;
        }
        let name = unsafe { LLVMGetStructName(self.0) };
        if name.is_null() {
            return None;
        }
        let name = unsafe { bytes(name, libc_strlen(name)) };
        std::str::from_utf8(name).ok()
    }
    pub fn is_sized(self) -> bool {
        unsafe { LLVMTypeIsSized(self.0) != 0 }
    }
    pub fn return_type(self) -> Type {
        debug_assert!(self.kind() == LLVMTypeKind::LLVMFunctionTypeKind);
        Type(unsafe { LLVMGetReturnType(self.0) })
    }
    pub fn function(self, parameters: &[Type], variadic: bool) -> Type {
        let mut raw: Vec<LLVMTypeRef> = parameters.iter().map(|t| t.0).collect();
        Type(unsafe {
            LLVMFunctionType(self.0, raw.as_mut_ptr(), raw.len() as u32, variadic.into())
        })
    }
    pub fn array(self, length: u64) -> Type {
        Type(unsafe { LLVMArrayType2(self.0, length) })
    }
    pub fn null(self) -> super::Value {
        super::Value(unsafe { LLVMConstNull(self.0) })
    }
    /// A constant of an integer type.
    pub fn int(self, value: u64) -> super::Value {
        super::Value(unsafe { LLVMConstInt(self.0, value, 0) })
    }
}

unsafe fn libc_strlen(text: *const std::ffi::c_char) -> usize {
    // SAFETY: LLVM returns a C string.
    unsafe { std::ffi::CStr::from_ptr(text) }.to_bytes().len()
}
