//! Debug information: names and places as they are in the source.

use super::{Module, Value};
use llvm_sys::prelude::*;
use std::ffi::{c_char, c_void, CStr, CString};

extern "C" {
    fn ame_debug_global(global: LLVMValueRef) -> *mut c_char;
    fn ame_debug_function(function: LLVMValueRef) -> *mut c_char;
    fn ame_debug_field(module: LLVMModuleRef, name: *const c_char, offset: u64) -> *mut c_char;
    fn ame_debug_folder(module: LLVMModuleRef) -> *mut c_char;
    fn free(block: *mut c_void);
}

/// A variable, as its declaration says.
pub struct Declaration {
    pub file: String,
    pub line: u32,
    pub name: String,
    pub ty: String,
    /// The function that a static variable is local to.
    pub function: Option<String>,
}

/// Lines of a text that the shim has allocated, or nothing.
fn lines(text: *mut c_char) -> Option<Vec<String>> {
    if text.is_null() {
        return None;
    }
    // SAFETY: a C string from strdup, which nobody else has.
    let copy = unsafe {
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        free(text.cast());
        copy
    };
    Some(copy.split('\n').map(str::to_owned).collect())
}

// SAFETY of all blocks: live handles (module docs).
impl Value {
    /// Of a global variable; `None` without debug information, as for string literals.
    pub fn declaration(self) -> Option<Declaration> {
        let found = lines(unsafe { ame_debug_global(self.0) })?;
        let [file, line, name, ty, function] = found.try_into().ok()?;
        Some(Declaration {
            file,
            line: line.parse().unwrap_or(0),
            name,
            ty,
            function: (!function.is_empty()).then_some(function),
        })
    }
    /// File and line of a function's definition.
    pub fn definition(self) -> Option<(String, u32)> {
        let found = lines(unsafe { ame_debug_function(self.0) })?;
        let [file, line] = found.try_into().ok()?;
        Some((file, line.parse().unwrap_or(0)))
    }
}

impl Module {
    /// The file that declares a struct (its name as in IR, without `struct.`), and its field at a byte.
    pub fn field(self, name: &str, offset: u64) -> Option<(String, String)> {
        let name = CString::new(name).ok()?;
        let found = lines(unsafe { ame_debug_field(self.0, name.as_ptr(), offset) })?;
        let [file, field] = found.try_into().ok()?;
        Some((file, field))
    }
    /// The folder that relative file names are relative to.
    pub fn folder(self) -> Option<String> {
        lines(unsafe { ame_debug_folder(self.0) })?.pop()
    }
}
