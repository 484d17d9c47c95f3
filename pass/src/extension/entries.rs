//! Thunks: where others enter the extension.

use super::{is_api, is_glue, Extension};
use crate::ffi::{attribute_kind, Opcode, Value};
use crate::report::Report;

/// Where the collector's callbacks stand: struct, field, and the number of the slot in its first field. It
/// calls them while all other threads are stopped, of which one may be in the domain.
const TRAVERSE: [(&str, u32, Option<u32>); 3] = [
    ("struct._typeobject", 21, None),
    ("struct.PyModuleDef", 6, None),
    ("struct.PyType_Slot", 1, Some(71)),
];

/// Attributes that are about the body of a function, or about memory.
const OF_THE_BODY: [&str; 7] = [
    "alwaysinline",
    "inlinehint",
    "memory",
    "naked",
    "noreturn",
    "returns_twice",
    "nosync",
];

pub fn make(extension: &Extension, report: &mut Report) -> Result<(), String> {
    let module = extension.module;
    let functions: Vec<Value> = module.functions().collect();
    for function in functions {
        let name = function.name();
        if is_glue(function) || name.starts_with("llvm.") {
            continue;
        }
        if !function.is_declaration() && name.starts_with("PyInit") && !function.is_internal() {
            initialise(extension, function)?;
            report.count("module_inits");
        }
        let elsewhere = function.is_declaration() || function.is_available_externally();
        if !function.is_address_taken()
            || function.function_has(attribute_kind("naked"))
            || elsewhere && (is_api(name) || extension.sets.function(name).is_some())
        {
            continue;
        }
        if function.value_type().is_variadic() {
            // Its arguments cannot be passed on. Without a prototype a declaration looks like one, too.
            report.count("variadic_entries");
            if !elsewhere {
                warn(function, report);
            }
            continue;
        }
        let stopped = thunk(extension, function, ".ame_traverse")?;
        replace_traverse(extension, function, stopped);
        if stopped.has_uses() {
            fill(
                extension,
                function,
                stopped,
                "ame_extension_stop",
                "ame_extension_go_on",
            )?;
            report.count("traverse_entries");
        } else {
            stopped.delete_function();
        }
        if function.is_address_taken() {
            let entry = thunk(extension, function, ".ame_entry")?;
            function.replace_addresses(entry);
            fill(
                extension,
                function,
                entry,
                "ame_extension_enter",
                "ame_extension_leave",
            )?;
            report.count("entries");
        }
    }
    Ok(())
}

fn warn(function: Value, report: &mut Report) {
    let what =
        "a function with variable arguments is known by its address: called from outside of the \
                extension it does not take the domain";
    if let Some(at) = function.entry().and_then(|block| block.first()) {
        report.rule(function, at, "entry", "variadic_entry", what);
        function.diagnose(Some(at), &format!("ame: {what}"), false);
    }
}

/// An empty function of the same type. Those of functions that other files know are one in the whole
/// extension, so that their addresses can be compared.
fn thunk(extension: &Extension, function: Value, suffix: &str) -> Result<Value, String> {
    let name = format!("{}{suffix}", function.name());
    let thunk = extension.module.add_function(&name, function.value_type());
    thunk.copy_attributes(function);
    for attribute in OF_THE_BODY {
        thunk.remove_function_attribute(attribute_kind(attribute));
    }
    thunk.copy_calling_convention(function);
    if function.is_internal() {
        thunk.set_internal();
    } else {
        thunk.set_linkonce_hidden();
    }
    Ok(thunk)
}

/// `before(&frame)`, the call, `after(&frame)`.
fn fill(
    extension: &Extension,
    function: Value,
    thunk: Value,
    before: &str,
    after: &str,
) -> Result<(), String> {
    body(extension, function, thunk, before, after, |_, result| {
        Ok(result)
    })
}

fn body(
    extension: &Extension,
    function: Value,
    thunk: Value,
    before: &str,
    after: &str,
    change: impl Fn(&Extension, Value) -> Result<Value, String>,
) -> Result<(), String> {
    let (module, builder) = (extension.module, &extension.builder);
    let (before, after) = (extension.function(before)?, extension.function(after)?);
    builder.at_end(module.append_block(thunk, ""));
    builder.forget_location();
    // `struct ame_extension_frame`.
    let frame = builder.alloca(module.int(64).array(4));
    builder.call(before.value_type(), before, &[frame]);
    let result = builder.forward_call(function);
    let returns = function.value_type().return_type() != module.void();
    let result = if returns {
        change(extension, result)?
    } else {
        result
    };
    builder.call(after.value_type(), after, &[frame]);
    if returns {
        builder.ret(result);
    } else {
        builder.return_void();
    }
    Ok(())
}

/// The interpreter finds `PyInit_NAME` by its name: the thunk takes it over, and tells the interpreter that
/// the module does without the GIL.
fn initialise(extension: &Extension, function: Value) -> Result<(), String> {
    let thunk = function.give_place(c".ame_body");
    let (enter, leave) = ("ame_extension_enter", "ame_extension_leave");
    body(
        extension,
        function,
        thunk,
        enter,
        leave,
        |extension, result| {
            let glue = extension.function("ame_extension_module")?;
            Ok(extension.builder.call(glue.value_type(), glue, &[result]))
        },
    )
}

fn replace_traverse(extension: &Extension, function: Value, by: Value) {
    let module = extension.module;
    for (structure, field, key) in TRAVERSE {
        module.replace_field((structure, field), key, function, by);
    }
    // `type.tp_traverse = f`.
    let stores: Vec<Value> = function
        .users()
        .filter(|user| user.opcode() == Some(Opcode::LLVMStore) && user.operand(0) == function)
        .collect();
    for store in stores {
        let place = store.operand(1);
        if place.opcode() != Some(Opcode::LLVMGetElementPtr) {
            continue;
        }
        let source = place.gep_source();
        let offset = module.gep_offset(place);
        let is_traverse = TRAVERSE.iter().any(|(structure, field, key)| {
            key.is_none()
                && source.struct_name() == Some(structure)
                && *field < source.struct_fields()
                && offset == Some(module.field_offset(source, *field) as i64)
        });
        if is_traverse {
            store.set_operand(0, by);
        }
    }
}
