//! Calls that leave the extension.

use super::bodies::is_body;
use super::{is_api, is_glue, Extension, PREFIX};
use crate::ffi::{Opcode, Value};
use crate::report::Report;
use ame_annotations::FunctionKind;
use std::ffi::CString;

/// What a call is.
pub enum Leaves {
    No,
    Yes,
    /// If what it calls is not the extension's own.
    Perhaps,
    /// If one of these arguments is of a type that CPython does not know all about.
    Unless(&'static [u32]),
    /// If one of the items of this tuple is, which is taken apart.
    UnlessItems(u32),
    /// Unless the first argument is one of CPython's containers, and the second a key or index as above.
    UnlessItem,
}

/// Functions that run code of the types of these arguments, and of no others.
const BY_TYPE: [(&[u32], &[&str]); 3] = [
    (
        &[0],
        &[
            "PyLong_AsLong",
            "PyLong_AsLongAndOverflow",
            "PyLong_AsLongLong",
            "PyLong_AsLongLongAndOverflow",
            "PyLong_AsUnsignedLong",
            "PyLong_AsUnsignedLongLong",
            "PyLong_AsUnsignedLongMask",
            "PyLong_AsUnsignedLongLongMask",
            "PyLong_AsSsize_t",
            "PyLong_AsSize_t",
            "PyLong_AsDouble",
            "PyLong_AsInt",
            "PyLong_AsNativeBytes",
            "PyFloat_AsDouble",
            "PyFloat_FromString",
            "PyNumber_AsSsize_t",
            "PyNumber_Index",
            "PyNumber_Long",
            "PyNumber_Float",
            "PyNumber_Negative",
            "PyNumber_Absolute",
            "PyNumber_Invert",
            "PyObject_Hash",
            "PyObject_IsTrue",
            "PyObject_Not",
            "PyObject_Str",
            "PyObject_Repr",
            "PyObject_ASCII",
        ],
    ),
    (
        &[0, 1],
        &[
            "PyObject_RichCompare",
            "PyObject_RichCompareBool",
            "PyNumber_Add",
            "PyNumber_Subtract",
            "PyNumber_Multiply",
            "PyNumber_TrueDivide",
            "PyNumber_FloorDivide",
            "PyNumber_Remainder",
            "PyNumber_Divmod",
            "PyNumber_And",
            "PyNumber_Or",
            "PyNumber_Xor",
            "PyNumber_Lshift",
            "PyNumber_Rshift",
        ],
    ),
    (
        &[1],
        &[
            "PyDict_GetItemRef",
            "PyDict_Contains",
            "PySet_Contains",
            "PySet_Add",
        ],
    ),
];

/// Gives the domain up around calls that leave.
pub fn give_up(extension: &Extension, report: &mut Report) -> Result<(), String> {
    let bodies: Vec<Value> = extension
        .module
        .functions()
        .filter(|f| !f.is_declaration() && !is_glue(*f) && !is_body(*f))
        .collect();
    for function in bodies {
        crate::plugin::set_current(function.name());
        let calls: Vec<Value> = function
            .blocks()
            .flat_map(|b| b.instructions())
            .filter(|i| matches!(i.opcode(), Some(Opcode::LLVMCall | Opcode::LLVMInvoke)))
            .collect();
        for call in calls {
            match leaves(extension, call) {
                Leaves::No => report.count("calls_kept"),
                Leaves::Yes => {
                    report.count("calls_given_up");
                    report.rule(function, call, "call", "gives_up", call.callee().name());
                    around(extension, call, "ame_extension_out", &[])?;
                }
                Leaves::Perhaps => {
                    report.count("calls_by_pointer");
                    let callee = call.callee();
                    let pointer = |n| call.operand(n).ty().is_pointer();
                    if call.arguments() == 2 && pointer(0) && pointer(1) {
                        // It may be a slot of a dictionary's type.
                        let arguments = [callee, call.operand(0), call.operand(1)];
                        around(extension, call, "ame_extension_out_to_slot", &arguments)?;
                    } else {
                        around(extension, call, "ame_extension_out_to", &[callee])?;
                    }
                }
                Leaves::UnlessItems(n) => {
                    report.count("calls_by_type");
                    around(
                        extension,
                        call,
                        "ame_extension_out_for_items",
                        &[call.operand(n)],
                    )?;
                }
                Leaves::UnlessItem => {
                    report.count("calls_by_type");
                    let arguments = [call.operand(0), call.operand(1)];
                    around(extension, call, "ame_extension_out_for_item", &arguments)?;
                }
                Leaves::Unless(arguments) => {
                    report.count("calls_by_type");
                    around_unless(extension, call, arguments)?;
                }
            }
        }
    }
    Ok(())
}

/// Functions of CPython that the set replaces by functions of the header.
pub fn replace(extension: &Extension, report: &mut Report) -> Result<(), String> {
    let prefix = CString::new(PREFIX).unwrap_or_default();
    let functions: Vec<Value> = extension.module.functions().collect();
    for function in functions {
        if !function.is_declaration() || !is_api(function.name()) {
            continue;
        }
        let rule = extension.sets.function(function.name());
        if let Some(name) = rule.and_then(|rule| rule.replace.as_deref()) {
            function.replace_outside(extension.function(name)?, &prefix);
            report.count("replaced");
        }
    }
    Ok(())
}

pub fn leaves(extension: &Extension, call: Value) -> Leaves {
    let callee = call.callee();
    if callee.is_inline_asm() {
        return Leaves::No;
    }
    if !callee.is_function() {
        return Leaves::Perhaps;
    }
    let name = callee.name();
    let elsewhere = callee.is_declaration() || callee.is_available_externally();
    // An extension calls its own initialisation, or that of another file.
    if !elsewhere || !is_api(name) || name.starts_with("PyInit_") {
        return Leaves::No;
    }
    let harmless = match format_of(name) {
        Some((argument, parses)) => is_simple_format(call, argument, parses),
        None => extension
            .sets
            .function(name)
            .is_some_and(|rule| rule.kind == FunctionKind::Pure),
    } || encodes_alone(call, name);
    if harmless {
        return Leaves::No;
    }
    match name.trim_end_matches("_SizeT").trim_start_matches('_') {
        "PyArg_ParseTuple" => return Leaves::UnlessItems(0),
        "PyObject_GetItem" => return Leaves::UnlessItem,
        _ => {}
    }
    let by_type = BY_TYPE.iter().find(|(_, names)| names.contains(&name));
    by_type.map_or(Leaves::Yes, |(arguments, _)| Leaves::Unless(arguments))
}

/// For functions with a format: which argument it is, and whether they take arguments apart.
pub fn format_of(name: &str) -> Option<(u32, bool)> {
    let name = name.trim_start_matches('_').trim_end_matches("_SizeT");
    match name {
        "PyArg_Parse" | "PyArg_ParseTuple" | "PyArg_VaParse" => Some((1, true)),
        "PyArg_ParseTupleAndKeywords" | "PyArg_VaParseTupleAndKeywords" => Some((2, true)),
        "Py_BuildValue" | "Py_VaBuildValue" => Some((0, false)),
        _ => None,
    }
}

/// Whether the format, if it is known, asks for nothing that runs code: conversions of objects to numbers
/// call `__index__` and the like, buffers the object's procedures, dictionaries hash.
fn is_simple_format(call: Value, argument: u32, parses: bool) -> bool {
    if argument >= call.arguments() {
        return false;
    }
    let Some(text) = constant_text(call.operand(argument)) else {
        return false;
    };
    let items = text.split([':', ';']).next().unwrap_or_default();
    match parses {
        true => items.bytes().all(|c| b"OUSYzs|$!() ".contains(&c)),
        false => !items.contains('{') && !items.contains('&'),
    }
}

/// `PyUnicode_AsEncodedString` in an encoding that CPython knows by itself, with errors that no handler of a program sees: it
/// makes bytes or fails (`PyUnicode_AsEncodedString` of CPython's Objects/unicodeobject.c).
pub fn encodes_alone(call: Value, name: &str) -> bool {
    if name != "PyUnicode_AsEncodedString" || call.arguments() != 3 {
        return false;
    }
    let is = |argument, known: &[&str]| {
        let text = call.operand(argument);
        text.is_null() || constant_text(text).is_some_and(|text| known.contains(&text.as_str()))
    };
    let utf_8 = ["utf-8", "utf8", "UTF-8"];
    let others = ["ascii", "us-ascii", "latin1", "latin-1", "iso-8859-1"];
    is(1, &utf_8) && is(2, &["strict", "surrogatepass"]) || is(1, &others) && is(2, &["strict"])
}

/// The string that a pointer leads to, if it is known.
pub fn constant_text(pointer: Value) -> Option<String> {
    if !pointer.is_global_variable() || !pointer.is_constant_global() {
        return None;
    }
    pointer.initializer().and_then(initial_text)
}

fn initial_text(value: Value) -> Option<String> {
    // An empty string is all zeroes.
    if value.is_null() {
        return Some(String::new());
    }
    value.constant_string()
}

/// The same for [`Leaves::Unless`].
pub fn around_unless(extension: &Extension, call: Value, arguments: &[u32]) -> Result<(), String> {
    let objects: Vec<Value> = arguments.iter().map(|&n| call.operand(n)).collect();
    // One object twice is one object.
    let both = [objects[0], objects[objects.len() - 1]];
    around(extension, call, "ame_extension_out_for", &both)
}

/// Asks a function of the header before the call whether the domain is given up, and takes it again afterwards.
pub fn around(
    extension: &Extension,
    call: Value,
    out: &str,
    arguments: &[Value],
) -> Result<(), String> {
    let call = match call.opcode() {
        // Functions of C that call back through the interpreter, which no exception crosses.
        Some(Opcode::LLVMInvoke) if call.callee().is_function() => call.invoke_to_call(),
        // By pointer it may be C++, which throws; its own thunk takes its own domain.
        Some(Opcode::LLVMInvoke) => return Ok(()),
        _ => call,
    };
    let Some(next) = call.next() else {
        return Err("a call at the end of a block".into());
    };
    if call.is_must_tail() {
        return Ok(());
    }
    let builder = &extension.builder;
    builder.before(call);
    let out = extension.function(out)?;
    let given_up = builder.call(out.value_type(), out, arguments);
    let back = extension.function("ame_extension_back")?;
    builder.before(next);
    builder.locate(call);
    builder.call(back.value_type(), back, &[given_up]);
    Ok(())
}
