//! Thunks: where others enter the extension.

use super::bodies::{choose, is_body, keep_apart, Bodies};
use super::{is_api, Extension};
use crate::callee::is_runtime;
use crate::ffi::{attribute_kind, IntPredicate, Module, Opcode, Value};
use crate::instrument::runtime::Runtime;
use crate::report::Report;
use ame_annotations::Sets;
use std::ffi::CStr;

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
    ENTRY,
];

const ENTRY: Way = Way {
    suffix: ".ame_entry",
    before: "ame_extension_enter",
    after: "ame_extension_leave",
    places: &[],
    count: "entries",
};

/// For functions that stand in [`TABLES`] only.
const ATTACHED: Way = Way {
    before: "ame_extension_enter_attached",
    ..ENTRY
};

/// CPython calls what stands in these, with a thread that is attached.
const TABLES: [&CStr; 10] = [
    c"struct.PyMethodDef",
    c"struct.PyGetSetDef",
    c"struct._typeobject",
    c"struct.PyType_Slot",
    c"struct.PyModuleDef_Slot",
    c"struct.PyNumberMethods",
    c"struct.PySequenceMethods",
    c"struct.PyMappingMethods",
    c"struct.PyAsyncMethods",
    c"struct.PyBufferProcs",
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
fn frame_words(extension: &Extension) -> u64 {
    match extension.parallel {
        Some(_) => 12,
        None => 7,
    }
}

pub fn make(
    extension: &Extension,
    bodies: Option<&Bodies>,
    report: &mut Report,
) -> Result<(), String> {
    let module = extension.module;
    let functions: Vec<Value> = module.functions().collect();
    let mut filled = Vec::new();
    for function in functions {
        let name = function.name();
        if is_runtime(name) || is_body(function) || name.starts_with("llvm.") {
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
            // What other files know, they may give to somebody else.
            let attached = way.places.is_empty()
                && function.is_internal()
                && function.is_only_in_structs(&TABLES);
            replace_in(extension, function, thunk, way.places);
            if thunk.has_uses() || way.places.is_empty() {
                // One thunk for all, so that its address can be compared.
                function.replace_addresses(thunk);
                let body = bodies.and_then(|bodies| bodies.get(function));
                let elided = bodies.is_some() && (body.is_some() || elsewhere);
                if elided && way.places.is_empty() {
                    filled.push((function, body, thunk));
                } else {
                    let traverses = std::ptr::eq(way, &WAYS[0]);
                    let first = || match extension.parallel {
                        Some(_) if traverses => skip_traversal(extension, thunk),
                        _ => Ok(()),
                    };
                    let way = if attached { &ATTACHED } else { way };
                    fill(extension, function, thunk, way, first, Ok)?;
                }
                report.count(way.count);
            } else {
                thunk.delete_function();
            }
        }
    }
    // These give addresses away.
    for (function, body, thunk) in filled {
        match extension.parallel {
            Some(parallel) if !parallel.has(function) => {
                fill_unmarked(extension, function, body, thunk)?;
            }
            _ => fill_elided(extension, function, body, thunk)?,
        }
    }
    Ok(())
}

/// At the start of a thunk: if a function of the header says so, it returns something else than it would. The builder
/// stands where the thunk goes on.
fn return_early(
    extension: &Extension,
    thunk: Value,
    if_so: &str,
    result: impl Fn() -> Value,
) -> Result<(), String> {
    let (module, builder) = (extension.module, &extension.builder);
    let (early, go_on) = (
        module.append_block(thunk, "early"),
        module.append_block(thunk, "go_on"),
    );
    let ask = extension.function(if_so)?;
    builder.forget_location();
    let answer = builder.call(ask.value_type(), ask, &[]);
    let no = module.int(32).int(0);
    let yes = builder.compare(IntPredicate::LLVMIntNE, answer, no);
    builder.branch_if(yes, early, go_on);
    builder.at_end(early);
    builder.return_result(result());
    builder.at_end(go_on);
    Ok(())
}

/// The collector learns nothing of objects that a thread without the GIL may be changing.
fn skip_traversal(extension: &Extension, thunk: Value) -> Result<(), String> {
    let nothing = || thunk.value_type().return_type().int(0);
    return_early(extension, thunk, "ame_extension_skips_traversal", nothing)
}

/// For a function with a body that keeps the GIL: another body may call it by its address.
fn fill_unmarked(
    extension: &Extension,
    function: Value,
    body: Option<Value>,
    thunk: Value,
) -> Result<(), String> {
    Runtime::new(extension.module).set_prefix(thunk);
    if let Some(body) = body {
        keep_apart(body);
    }
    let nested = || call_body(extension, function, body, thunk);
    let first = || return_early(extension, thunk, "ame_extension_is_nested", nested);
    fill(extension, function, thunk, &ENTRY, first, Ok)
}

/// In a thunk. Of another file's function nobody knows here whether it has a body.
fn call_body(extension: &Extension, function: Value, body: Option<Value>, thunk: Value) -> Value {
    let (module, builder) = (extension.module, &extension.builder);
    match body {
        Some(body) => builder.forward_call(body),
        None => {
            let target = choose(module, builder, function);
            builder.call(function.value_type(), target, &thunk.parameters())
        }
    }
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

/// `before(&frame, first argument)`, the call, `after(&frame)`. What comes first, and what becomes of the result.
fn fill(
    extension: &Extension,
    function: Value,
    thunk: Value,
    way: &Way,
    first: impl Fn() -> Result<(), String>,
    change: impl Fn(Value) -> Result<Value, String>,
) -> Result<(), String> {
    let (module, builder) = (extension.module, &extension.builder);
    let before = extension.function(way.before)?;
    let after = extension.function(way.after)?;
    builder.at_end(module.append_block(thunk, ""));
    builder.forget_location();
    let frame = builder.alloca(module.int(64).array(frame_words(extension)));
    first()?;
    let arguments = [&[frame], &thunk.parameters()[..]].concat();
    let n = before.parameters().len();
    builder.call(before.value_type(), before, &arguments[..n]);
    let result = builder.forward_call(function);
    let result = match result.ty().is_void() {
        true => result,
        false => change(result)?,
    };
    builder.call(after.value_type(), after, &[frame]);
    builder.return_result(result);
    Ok(())
}

/// Number of the frame's ways in `enum ame_extension_way`.
const HOLDS: u64 = 0;
const BEGINS: u64 = 1;

/// The same for a function with a body, `None`: perhaps, in another file. In C:
///
/// ```c
/// again:
///     way = ame_extension_way(&frame, &entry, end of this frame);
///     if (way == HOLDS) { result = f(...); ame_extension_leave(&frame); return result; }
///     if (way == BEGINS) {
///         if (ame_begin() != 0) { ame_extension_rolled_back(&frame); goto again; }
///         result = f.transaction(...); ame_extension_end(&frame); return result;
///     }
///     return f.transaction(...);
/// ```
fn fill_elided(
    extension: &Extension,
    function: Value,
    body: Option<Value>,
    thunk: Value,
) -> Result<(), String> {
    if let Some(body) = body {
        keep_apart(body);
    }
    let (module, builder) = (extension.module, &extension.builder);
    let runtime = Runtime::new(module);
    runtime.set_prefix(thunk);
    let (i32t, pointer) = (module.int(32), module.pointer());
    let name = module.const_bytes(format!("{}\0", function.name()).as_bytes());
    let name = module.add_constant(name);
    let zero = i32t.int(0);
    let state = module.const_struct(&[name, zero, zero, zero, zero, zero, zero]);
    let state = module.add_variable(&format!("{}.state", thunk.name()), state);
    let block = |name| module.append_block(thunk, name);
    let (start, again) = (block(""), block("again"));
    let (other, begin) = (block("other"), block("begin"));
    let (hold, undone, run, nested) = (
        block("hold"),
        block("undone"),
        block("run"),
        block("nested"),
    );
    let call = |name: &str, arguments: &[Value]| -> Result<Value, String> {
        let callee = extension.function(name)?;
        Ok(builder.call(callee.value_type(), callee, arguments))
    };
    builder.at_end(start);
    builder.forget_location();
    let frame = builder.alloca(module.int(64).array(frame_words(extension)));
    builder.branch(again);
    builder.at_end(again);
    let ty = pointer.function(&[i32t], false);
    let address = module.declared("llvm.frameaddress.p0", ty);
    // Above the saved frame pointer and the return address.
    let base = builder.call(ty, address, &[i32t.int(0)]);
    let end = builder.gep(module.int(64), base, module.int(64).int(2));
    let chosen = call("ame_extension_way", &[frame, state, end])?;
    let is = |number| builder.compare(IntPredicate::LLVMIntEQ, chosen, i32t.int(number));
    builder.branch_if(is(HOLDS), hold, other);
    builder.at_end(other);
    builder.branch_if(is(BEGINS), begin, nested);
    builder.at_end(begin);
    let ty = i32t.function(&[], false);
    let result = builder.call(ty, module.declared("ame_begin", ty), &[]);
    let began = builder.compare(IntPredicate::LLVMIntEQ, result, i32t.int(0));
    builder.branch_if(began, run, undone);
    builder.at_end(undone);
    call("ame_extension_rolled_back", &[frame])?;
    builder.branch(again);
    let transact = || call_body(extension, function, body, thunk);
    builder.at_end(run);
    let result = transact();
    call("ame_extension_end", &[frame])?;
    builder.return_result(result);
    builder.at_end(nested);
    builder.return_result(transact());
    builder.at_end(hold);
    let result = builder.forward_call(function);
    call(ENTRY.after, &[frame])?;
    builder.return_result(result);
    Ok(())
}

/// In a file without the header: what others call by pointer is entered through a function that looks at the
/// thread's mode.
pub fn dispatch(module: Module, bodies: &Bodies, sets: &Sets) {
    let mut runtime = Runtime::new(module);
    let functions: Vec<Value> = module.functions().collect();
    for function in functions {
        let Some(body) = bodies.get(function) else {
            continue;
        };
        let known = sets.function(function.name()).is_some();
        if !function.is_address_taken() || function.value_type().is_variadic() || known {
            continue;
        }
        let dispatcher = module.add_function(
            &format!("{}.ame_dispatch", function.name()),
            function.value_type(),
        );
        dispatcher.copy_attributes(function);
        for attribute in OF_THE_BODY {
            dispatcher.remove_function_attribute(attribute_kind(attribute));
        }
        dispatcher.copy_calling_convention(function);
        dispatcher.set_internal();
        function.replace_addresses(dispatcher);
        keep_apart(body);
        runtime.set_prefix(dispatcher);
        let block = |name| module.append_block(dispatcher, name);
        let (start, inside, outside) = (block(""), block("transaction"), block("plain"));
        runtime.builder.forget_location();
        runtime.builder.at_end(start);
        let condition = runtime.in_transaction_anywhere();
        runtime.builder.branch_if(condition, inside, outside);
        for (block, target) in [(inside, body), (outside, function)] {
            runtime.builder.at_end(block);
            let result = runtime.builder.forward_call(target);
            runtime.builder.return_result(result);
        }
    }
}

/// The interpreter finds `PyInit_NAME` by its name: the thunk takes it over, and tells the interpreter that
/// the module does without the GIL.
fn initialise(extension: &Extension, function: Value) -> Result<(), String> {
    let thunk = function.give_place(c".ame_body");
    let tell = |result| {
        let glue = extension.function("ame_extension_module")?;
        Ok(extension.builder.call(glue.value_type(), glue, &[result]))
    };
    fill(extension, function, thunk, &ENTRY, || Ok(()), tell)
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
