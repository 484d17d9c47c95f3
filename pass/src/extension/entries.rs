//! Thunks: where others enter the extension.

use super::{is_api, is_glue, Extension};
use crate::ffi::{attribute_kind, Opcode, Value};
use crate::report::Report;

/// A way to enter: suffix of the thunk's name, what it calls before and after, and where its functions stand if
/// they are special.
struct Way {
    suffix: &'static str,
    before: &'static str,
    after: &'static str,
    places: &'static [Place],
    count: &'static str,
}

/// Struct, field, and the number of the slot in its first field.
type Place = (&'static str, u32, Option<u32>);

const WAYS: [Way; 3] = [
    // The collector calls them while all other threads are stopped, of which one may be in the domain.
    Way {
        suffix: ".ame_traverse",
        before: "ame_extension_stop",
        after: "ame_extension_go_on",
        places: &[
            ("struct._typeobject", 21, None),
            ("struct.PyModuleDef", 6, None),
            ("struct.PyType_Slot", 1, Some(71)),
        ],
        count: "traverse_entries",
    },
    // Nobody may keep a reference to what they free.
    Way {
        suffix: ".ame_dealloc",
        before: "ame_extension_enter_dealloc",
        after: "ame_extension_leave_dealloc",
        places: &[
            ("struct._typeobject", 4, None),
            ("struct.PyType_Slot", 1, Some(52)),
        ],
        count: "dealloc_entries",
    },
    Way {
        suffix: ".ame_entry",
        before: "ame_extension_enter",
        after: "ame_extension_leave",
        places: &[],
        count: "entries",
    },
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

/// Of `struct ame_extension_dealloc_frame`, the larger one.
const FRAME_WORDS: u64 = 7;

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
        for way in &WAYS {
            if !function.is_address_taken() {
                break;
            }
            let thunk = thunk(extension, function, way.suffix)?;
            replace_in(extension, function, thunk, way.places);
            if thunk.has_uses() || way.places.is_empty() {
                // One thunk for all, so that its address can be compared.
                function.replace_addresses(thunk);
                fill(extension, function, thunk, way, |_, result| Ok(result))?;
                report.count(way.count);
            } else {
                thunk.delete_function();
            }
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

/// `before(&frame, first argument)`, the call, `after(&frame)`.
fn fill(
    extension: &Extension,
    function: Value,
    thunk: Value,
    way: &Way,
    change: impl Fn(&Extension, Value) -> Result<Value, String>,
) -> Result<(), String> {
    let (module, builder) = (extension.module, &extension.builder);
    let before = extension.function(way.before)?;
    let after = extension.function(way.after)?;
    builder.at_end(module.append_block(thunk, ""));
    builder.forget_location();
    let frame = builder.alloca(module.int(64).array(FRAME_WORDS));
    let arguments = [&[frame], &thunk.parameters()[..]].concat();
    let n = before.parameters().len();
    builder.call(before.value_type(), before, &arguments[..n]);
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
    let way = &WAYS[WAYS.len() - 1];
    fill(extension, function, thunk, way, |extension, result| {
        let glue = extension.function("ame_extension_module")?;
        Ok(extension.builder.call(glue.value_type(), glue, &[result]))
    })
}

/// Puts the thunk where these fields have the function: in initial values, and where it is stored.
fn replace_in(extension: &Extension, function: Value, by: Value, places: &[Place]) {
    let module = extension.module;
    for &(structure, field, key) in places {
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
        let is_one = places.iter().any(|(structure, field, key)| {
            key.is_none()
                && source.struct_name() == Some(structure)
                && *field < source.struct_fields()
                && offset == Some(module.field_offset(source, *field) as i64)
        });
        if is_one {
            store.set_operand(0, by);
        }
    }
}
