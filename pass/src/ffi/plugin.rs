//! What LLVM calls when it loads and runs the plugin.

use super::{ame_shim_fatal, ame_shim_option, ame_shim_register, Module};
use llvm_sys::prelude::LLVMModuleRef;
use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::panic::{catch_unwind, AssertUnwindSafe};

/// LLVM's `PassPluginLibraryInfo`.
#[repr(C)]
pub struct PluginInfo {
    api_version: u32,
    name: *const c_char,
    version: *const c_char,
    register: unsafe extern "C" fn(*mut c_void),
}

/// `LLVM_PLUGIN_API_VERSION` of LLVM 19.
const API_VERSION: u32 = 1;

/// The symbol that clang and opt look for. It is Rust's because rustc hides C++ definitions.
#[no_mangle]
pub extern "C" fn llvmGetPassPluginInfo() -> PluginInfo {
    PluginInfo {
        api_version: API_VERSION,
        name: c"Ame".as_ptr(),
        version: c"0.1.0".as_ptr(),
        register,
    }
}

unsafe extern "C" fn register(builder: *mut c_void) {
    let (mut major, mut minor, mut patch) = (0, 0, 0);
    // SAFETY: three valid out parameters.
    unsafe { llvm_sys::core::LLVMGetVersion(&mut major, &mut minor, &mut patch) };
    if major != 19 {
        fatal(&format!(
            "libame_pass.so is built for LLVM 19, but this compiler has LLVM \
             {major}.{minor}.{patch}; use clang-19 or opt-19"
        ));
    }
    // With panic=abort nothing can be caught: the hook ends the compiler with a message first.
    std::panic::set_hook(Box::new(|info| {
        let what = info
            .payload()
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| info.payload().downcast_ref::<&str>().copied())
            .unwrap_or("unknown panic");
        let place = info
            .location()
            .map(|l| format!("{}:{}", l.file(), l.line()));
        fatal(&format!(
            "internal error in the Ame pass ({}): {what}\nwhile working on {}\nPlease report it \
             with the source file; AME_PASS_OPT=-all may avoid it",
            place.unwrap_or_default(),
            crate::plugin::current()
        ));
    }));
    // SAFETY: `builder` is the PassBuilder that LLVM hands to the plugin.
    unsafe { ame_shim_register(builder) };
}

#[no_mangle]
extern "C" fn ame_pass_checks() -> bool {
    crate::plugin::checks()
}

#[no_mangle]
extern "C" fn ame_pass_run(module: LLVMModuleRef, tag: bool) -> bool {
    let module = Module::from_raw(module);
    let result = catch_unwind(AssertUnwindSafe(|| {
        if tag {
            crate::plugin::tag(module)
        } else {
            crate::plugin::instrument(module)
        }
    }));
    match result {
        Ok(Ok(changed)) => changed,
        Ok(Err(message)) => fatal(&message),
        // The hook has ended the process already.
        Err(_) => fatal("internal error in the Ame pass"),
    }
}

/// Ends the compiler with `message`.
pub fn fatal(message: &str) -> ! {
    let text = CString::new(format!("ame: {}", message.replace('\0', " "))).unwrap_or_default();
    // SAFETY: a C string; the function does not return.
    unsafe { ame_shim_fatal(text.as_ptr()) }
}

/// Environment variables in the order of the shim's options.
pub const OPTION_NAMES: [&str; 6] = [
    "AME_ANNOTATIONS",
    "AME_PASS_OPT",
    "AME_PASS_STATS",
    "AME_PASS_REMARKS",
    "AME_PASS_WARN",
    "AME_EXTENSION",
];

/// An option: from `-mllvm -ame-...` if given, else from the environment.
pub fn option(which: usize) -> Option<String> {
    // SAFETY: the shim returns a C string that lives as long as the option.
    let given = unsafe { CStr::from_ptr(ame_shim_option(which as c_int)) };
    let given = given.to_string_lossy().into_owned();
    if given.is_empty() {
        std::env::var(OPTION_NAMES[which])
            .ok()
            .filter(|v| !v.is_empty())
    } else {
        Some(given)
    }
}
