//! What an instrumented module tells the runtime when it is loaded.

use super::is_call;
use super::runtime::Runtime;
use crate::attributes;
use crate::callee::is_runtime;
use crate::ffi::Value;
use ame_abi::{sym, ABI_VERSION};
use ame_annotations::{FunctionKind, Sets};

/// Name of the constructor.
const CONSTRUCTOR: &str = "ame.module_constructor";

/// Adds a constructor that registers the module.
pub fn register(runtime: &mut Runtime, sets: &Sets) {
    let module = runtime.module;
    let known = known_functions(runtime, sets);
    let entry_type = module.struct_type(&[runtime.ptr, runtime.i64]);
    let n = known.len() as u64;
    let table = if known.is_empty() {
        runtime.ptr.null()
    } else {
        module.add_constant(module.const_array(entry_type, &known))
    };
    let name = module.add_constant(module.const_bytes(module.name()));
    let constructor = module.add_function(CONSTRUCTOR, runtime.void.function(&[], false));
    constructor.set_internal();
    constructor.set_text_attribute(attributes::KEY, "safe");
    let block = module.append_block(constructor, "entry");
    runtime.builder.forget_location();
    runtime.builder.at_end(block);
    let version = runtime.i32.int(ABI_VERSION.into());
    let n = runtime.i64.int(n);
    runtime.call(sym::MODULE_REGISTER, &[version, name, table, n]);
    runtime.builder.return_void();
    module.append_constructor(constructor, 0);
}

/// External functions with a rule whose address is used other than for a direct call: an indirect
/// call may reach them, and they have no prefix.
fn known_functions(runtime: &Runtime, sets: &Sets) -> Vec<Value> {
    let module = runtime.module;
    let mut known = Vec::new();
    for function in module.functions().filter(|f| f.is_declaration()) {
        let name = function.name();
        if name.starts_with("llvm.") || !address_taken(function) {
            continue;
        }
        let kind = if is_runtime(name) {
            0
        } else {
            match attributes::rule(function, sets) {
                Some(r) if !r.reads.is_empty() || !r.writes.is_empty() => continue,
                Some(r) => match r.kind {
                    FunctionKind::Pure | FunctionKind::Safe => 0,
                    FunctionKind::Inevitable => 1,
                    FunctionKind::Exclusive => 2,
                    _ => continue,
                },
                None => continue,
            }
        };
        known.push(module.const_struct(&[function, runtime.i64.int(kind)]));
    }
    known
}

fn address_taken(function: Value) -> bool {
    function.users().any(|u| {
        !(u.is_instruction() && is_call(u) && u.callee() == function)
            || (0..u.arguments()).any(|i| u.operand(i) == function)
    })
}
