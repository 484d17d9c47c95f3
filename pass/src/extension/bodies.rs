//! Bodies: each function of an extension a second time, to run in a transaction ([`super`]).
//!
//! `f.transaction` is made before anything else happens to the file. Its calls of the extension's own functions
//! go to their bodies, also in other files; those of CPython and the C library are left alone, replaced,
//! noted for a rollback, or end the transaction first, as the sets `python-elision` and `libc` say. The
//! instrument phase gives it barriers.

use super::calls::{self, Leaves};
use super::parallel::Points;
use super::{is_api, is_glue, parallel, Extension, PREFIX};
use crate::analysis::address::root;
use crate::attributes::BODY;
use crate::ffi::{attribute_kind, Builder, Module, Opcode, Value};
use crate::instrument::calls as calls_of;
use crate::marks::{Kind, Mark, Marks};
use crate::report::Report;
use ame_annotations::{FunctionKind, Sets};
use rustc_hash::FxHashMap;
use std::ffi::CString;

const SUFFIX: &str = ".transaction";

/// Functions of the C library that the runtime has for transactions beside an interpreter: of all files of the
/// extension, so that no block shares a granule with something else.
const ALLOCATOR: [&str; 6] = ["malloc", "calloc", "realloc", "free", "strdup", "strndup"];

/// Inline functions of CPython's headers.
pub const HEADER: [(&str, &str); 4] = [
    ("Py_INCREF", "ame_extension_incref"),
    ("Py_DECREF", "ame_extension_decref"),
    ("Py_XINCREF", "ame_extension_xincref"),
    ("Py_XDECREF", "ame_extension_xdecref"),
];

/// Of them, those that change what other threads see of an object.
const HEADER_UNDOABLE: [&str; 4] = [
    "Py_SET_REFCNT",
    "Py_SET_TYPE",
    "PyMutex_Lock",
    "PyMutex_Unlock",
];

/// Of them, those that store into what has just been made, on an interpreter with a GIL.
const PUTS: [(&str, &str); 2] = [
    ("PyList_SET_ITEM", "ame_extension_put_in_list"),
    ("PyTuple_SET_ITEM", "ame_extension_put_in_tuple"),
];

/// Functions of domain.h that stand for some of CPython, and keep what they lend.
const LENDING: [&str; 10] = [
    "ame_extension_list_get_item",
    "ame_extension_list_item",
    "ame_extension_dict_get_item",
    "ame_extension_dict_get_item_with_error",
    "ame_extension_dict_get_item_string",
    "ame_extension_dict_get_item_string_with_error",
    "ame_extension_dict_get_item_known_hash",
    "ame_extension_weakref_get_object",
    "ame_extension_cell_item",
    "ame_extension_clear_error",
];

/// What the runtime's replacements of the C library's functions begin with that only touch memory: the others
/// wait for the runtime's own commit.
const OF_MEMORY: [&str; 4] = ["ame_str", "ame_mem", "ame_ato", "ame_stp"];

/// Structs of CPython that it changes itself, or nobody: reads need no barrier.
const OF_PYTHON: [&str; 12] = [
    "struct._object",
    "struct.PyVarObject",
    "struct._typeobject",
    "struct._heaptypeobject",
    "struct.PyTupleObject",
    "struct.PyListObject",
    "struct.PyBytesObject",
    "struct.PyASCIIObject",
    "struct.PyCompactUnicodeObject",
    "struct._longobject",
    "struct._PyLongValue",
    "struct.PyFloatObject",
];

/// The bodies of a module's functions.
pub struct Bodies {
    of: FxHashMap<Value, Value>,
    /// Calls in bodies of functions that another file may have a body of.
    elsewhere: Vec<Value>,
}

impl Bodies {
    /// Functions with their bodies.
    pub fn all(&self) -> impl Iterator<Item = (Value, Value)> + '_ {
        self.of.iter().map(|(&function, &body)| (function, body))
    }

    pub fn get(&self, function: Value) -> Option<Value> {
        self.of.get(&function).copied()
    }

    /// When addresses have been replaced by those of thunks: sends such calls where they belong.
    pub fn link(&self, module: Module) {
        let builder = Builder::new(module);
        for &call in &self.elsewhere {
            builder.before(call);
            let target = choose(module, &builder, call.callee());
            call.set_callee(target);
        }
    }
}

/// Which body, or else the function itself after the transaction has ended, to call where the builder stands.
pub fn choose(module: Module, builder: &Builder, function: Value) -> Value {
    let name = format!("{}{SUFFIX}", function.name());
    // Null where nobody has it.
    let known = module.function(&name);
    let body = known.unwrap_or_else(|| module.add_function(&name, function.value_type()));
    if known.is_none() {
        body.set_weak_reference();
    }
    let choose = runtime(module, "ame_elision_choose", 3, true);
    let name = text(module, function.name());
    builder.call(choose.value_type(), choose, &[body, function, name])
}

fn text(module: Module, text: &str) -> Value {
    let bytes = module.const_bytes(format!("{text}\0").as_bytes());
    module.add_constant(bytes)
}

/// A function of the runtime that takes pointers, and returns one or nothing.
fn runtime(module: Module, name: &str, arguments: usize, returns: bool) -> Value {
    let pointer = module.pointer();
    let result = if returns { pointer } else { module.void() };
    module.declared(name, result.function(&vec![pointer; arguments], false))
}

/// Takes the allocator of the runtime in all functions, by pointer as well.
fn replace_allocator(module: Module) {
    let prefix = CString::new(PREFIX).unwrap_or_default();
    for name in ALLOCATOR {
        let Some(function) = module.function(name).filter(|f| f.is_declaration()) else {
            continue;
        };
        let other = module.declared(&format!("ame_elision_{name}"), function.value_type());
        // What domain.h itself allocates belongs to the thread, whatever becomes of its transactions.
        function.replace_outside(other, &prefix);
    }
}

/// Makes the functions that transactions run, and has the whole module use the runtime's allocator.
pub fn make(
    module: Module,
    libc: &Sets,
    extension: Option<&Extension>,
    report: &mut Report,
) -> Result<Bodies, String> {
    replace_allocator(module);
    let mut bodies = copy(module);
    // Of calls as they are in the source.
    let parallel = extension.filter(|e| e.parallel.is_some());
    let points = parallel.map(|e| (e, Points::find(e, &bodies, libc)));
    adapt(module, &mut bodies, libc, extension, report)?;
    if let Some((extension, points)) = points {
        points.insert(extension, report)?;
    }
    Ok(bodies)
}

fn copy(module: Module) -> Bodies {
    let functions: Vec<Value> = module.functions().filter(|&f| fits(f)).collect();
    let mut of = FxHashMap::default();
    for function in functions {
        let Some(body) = function.clone_function() else {
            continue;
        };
        let name = function.name().to_owned();
        body.set_name(&format!("{name}{SUFFIX}"));
        body.set_text_attribute(BODY, &name);
        match function.is_internal() {
            true => body.set_internal(),
            false => body.set_hidden(function.may_have_copies()),
        }
        of.insert(function, body);
    }
    Bodies {
        of,
        elsewhere: Vec::new(),
    }
}

fn fits(function: Value) -> bool {
    let name = function.name();
    let twice = attribute_kind("returns_twice");
    !function.is_declaration()
        && !function.is_available_externally()
        && !is_glue(function)
        && !name.starts_with("llvm.")
        && !name.starts_with("PyInit_")
        && !function.function_has(attribute_kind("naked"))
        && !function.function_has(attribute_kind("presplitcoroutine"))
        && calls_of(function).all(|call| {
            let callee = call.callee();
            call.opcode() == Some(Opcode::LLVMCall)
                && !call.is_must_tail()
                && !(callee.is_function() && callee.function_has(twice))
        })
}

/// What one call needs.
struct Rewriter<'a> {
    module: Module,
    builder: Builder,
    bodies: &'a Bodies,
    libc: &'a Sets,
    /// Where the file includes `Python.h`.
    extension: Option<&'a Extension<'a>>,
}

/// Adapts the bodies.
fn adapt(
    module: Module,
    bodies: &mut Bodies,
    libc: &Sets,
    extension: Option<&Extension>,
    report: &mut Report,
) -> Result<(), String> {
    let mut elsewhere = Vec::new();
    let rewriter = Rewriter {
        module,
        builder: Builder::new(module),
        bodies,
        libc,
        extension,
    };
    let marks = Marks::new(module);
    // In the order of the file: what the compiler writes must not depend on addresses.
    let all: Vec<Value> = module
        .functions()
        .filter(|f| f.text_attribute(BODY).is_some())
        .collect();
    for body in all {
        crate::plugin::set_current(body.name());
        report.count("bodies");
        mark_reads(module, &marks, body);
        let calls: Vec<Value> = calls_of(body).collect();
        for call in calls {
            if rewriter.call(call, report)? {
                elsewhere.push(call);
            }
        }
    }
    bodies.elsewhere = elsewhere;
    Ok(())
}

/// Reads of CPython's own fields.
fn mark_reads(module: Module, marks: &Marks, body: Value) {
    let racy = Mark {
        kind: Kind::Racy,
        residue: None,
    };
    // The headers use them for its fields.
    let reads_python = body.name().starts_with("_Py_atomic_load_");
    for at in body.blocks().flat_map(|b| b.instructions()) {
        if at.opcode() != Some(Opcode::LLVMLoad) {
            continue;
        }
        if reads_python {
            marks.set(at, racy);
            continue;
        }
        let pointer = at.operand(0);
        if pointer.opcode() != Some(Opcode::LLVMGetElementPtr) {
            continue;
        }
        let name = pointer.gep_source().struct_name().unwrap_or_default();
        // Clang numbers what different headers call the same.
        let name = name.trim_end_matches(|c: char| c == '.' || c.is_ascii_digit());
        let constant = module.gep_offset(pointer).is_some() || name != "struct._typeobject";
        if OF_PYTHON.contains(&name) && constant {
            marks.set(at, racy);
        }
    }
}

impl Rewriter<'_> {
    /// True for a call that [`Bodies::link`] has to look after.
    fn call(&self, call: Value, report: &mut Report) -> Result<bool, String> {
        let callee = call.callee();
        if callee.is_inline_asm() {
            return Ok(false);
        }
        if !callee.is_function() {
            self.by_pointer(call)?;
            return Ok(false);
        }
        let name = callee.name();
        if name.starts_with("llvm.") || name.starts_with("ame_elision_") {
            return Ok(false);
        }
        if is_glue(callee) {
            self.need_gil(call)?;
            let places_are_local = || (1..call.arguments()).all(|i| is_local(call.operand(i)));
            let keeps =
                LENDING.contains(&name) || name == "ame_extension_dict_next" && places_are_local();
            if !keeps {
                self.irrevocable(call, name, report);
            }
            return Ok(false);
        }
        if let Some((_, own)) = HEADER.iter().find(|(header, _)| *header == name) {
            if let Some(extension) = self.extension {
                if own.contains("incref") {
                    self.need_gil(call)?;
                }
                call.set_callee(extension.function(own)?);
                return Ok(false);
            }
        }
        let put = PUTS.iter().find(|(header, _)| *header == name);
        if let (Some((_, own)), Some(extension)) = (put, self.parallel()) {
            self.need_gil(call)?;
            call.set_callee(extension.function(own)?);
            return Ok(false);
        }
        if HEADER_UNDOABLE.contains(&name) {
            self.need_gil(call)?;
            self.irrevocable(call, name, report);
            return Ok(false);
        }
        if name == "Py_REFCNT" {
            self.need_gil(call)?;
        }
        if let Some(body) = self.bodies.get(callee) {
            call.set_callee(body);
            return Ok(false);
        }
        if !callee.is_declaration() && !callee.is_available_externally() {
            self.need_gil(call)?;
            self.irrevocable(call, name, report);
            return Ok(false);
        }
        match self.extension {
            Some(extension) if is_api(name) && !name.starts_with("PyInit_") => {
                self.api(extension, call, name, report)?;
                Ok(false)
            }
            _ => Ok(self.elsewhere(call, callee, report)),
        }
    }

    /// A function of CPython.
    fn api(
        &self,
        extension: &Extension,
        call: Value,
        name: &str,
        report: &mut Report,
    ) -> Result<(), String> {
        if !parallel::WITHOUT_GIL.contains(&name) {
            self.need_gil(call)?;
        }
        let rule = extension.elision.and_then(|sets| sets.function(name));
        if let Some(own) = rule.and_then(|rule| rule.replace.as_deref()) {
            call.set_callee(extension.function(own)?);
            return Ok(());
        }
        if name == "PyArg_UnpackTuple" && (4..call.arguments()).all(|i| is_local(call.operand(i))) {
            return Ok(());
        }
        if let Some((argument, true)) = calls::format_of(name) {
            if let Some(parsed) = parsed(call, argument) {
                return self.arguments(extension, call, argument, &parsed);
            }
        }
        match calls::leaves(extension, call) {
            Leaves::Yes | Leaves::Perhaps | Leaves::UnlessItems(_) | Leaves::UnlessItem => {
                self.irrevocable(call, name, report);
                return calls::around(extension, call, "ame_extension_out", &[]);
            }
            Leaves::Unless(arguments) => calls::around_unless(extension, call, arguments)?,
            Leaves::No => {}
        }
        let kind = match calls::format_of(name) {
            Some((_, true)) => None,
            Some((argument, false)) => {
                let text = calls::constant_text(call.operand(argument)).unwrap_or("N".into());
                (!text.contains('N')).then_some(FunctionKind::Safe)
            }
            None if calls::encodes_alone(call, name) => Some(FunctionKind::Safe),
            None => rule.map(|rule| rule.kind),
        };
        match kind {
            Some(FunctionKind::Pure) => {}
            Some(FunctionKind::Safe) => {
                let made = extension.function("ame_extension_made")?;
                let Some(next) = call.next() else {
                    return Err(format!("{name}: a call at the end of a block"));
                };
                self.builder.before(next);
                self.builder.locate(call);
                self.builder.call(made.value_type(), made, &[call]);
            }
            _ => self.irrevocable(call, name, report),
        }
        Ok(())
    }

    /// A function that takes arguments apart, with a format that is known.
    fn arguments(
        &self,
        extension: &Extension,
        call: Value,
        argument: u32,
        parsed: &Parsed,
    ) -> Result<(), String> {
        let (i64, pointer) = (self.module.int(64), self.module.pointer());
        for &(at, size) in &parsed.results {
            let place = call.operand(at);
            if !is_local(place) {
                let write = self.module.declared(
                    "ame_write_range",
                    self.module.void().function(&[pointer, i64], false),
                );
                self.builder.before(call);
                self.builder
                    .call(write.value_type(), write, &[place, i64.int(size)]);
            }
        }
        if !parsed.buffers.is_empty() {
            let note = extension.function("ame_extension_parsed_buffer")?;
            let next = call.next().ok_or("a call at the end of a block")?;
            self.builder.before(next);
            self.builder.locate(call);
            for &at in &parsed.buffers {
                self.builder
                    .call(note.value_type(), note, &[call, call.operand(at)]);
            }
        }
        // Which objects run code when they are converted is known then.
        let keywords = match argument {
            2 => call.operand(1),
            _ => pointer.null(),
        };
        let positions = i64.int(parsed.positions);
        let arguments = [call.operand(0), keywords, positions];
        calls::around(
            extension,
            call,
            "ame_extension_out_for_arguments",
            &arguments,
        )
    }

    /// A function of the C library, of another file of the extension, or of another library.
    fn elsewhere(&self, call: Value, callee: Value, report: &mut Report) -> bool {
        let name = callee.name();
        if let Some(rule) = self.libc.function(name) {
            match rule.replace.as_deref() {
                Some(own) if OF_MEMORY.iter().any(|start| own.starts_with(start)) => {
                    call.set_callee(self.module.declared(own, callee.value_type()));
                }
                None if rule.kind == FunctionKind::Pure => {}
                _ => self.irrevocable(call, name, report),
            }
            return false;
        }
        if callee.memory_effects() & 0b11_00_11 == 0 {
            return false;
        }
        true
    }

    fn by_pointer(&self, call: Value) -> Result<(), String> {
        let choose = match self.extension {
            Some(extension) => extension.function("ame_extension_target")?,
            None => runtime(self.module, "ame_elision_target", 1, true),
        };
        self.builder.before(call);
        let target = self
            .builder
            .call(choose.value_type(), choose, &[call.callee()]);
        call.set_callee(target);
        match self.extension {
            Some(extension) => {
                calls::around(extension, call, "ame_extension_out_to_target", &[target])
            }
            None => Ok(()),
        }
    }

    fn parallel(&self) -> Option<&Extension<'_>> {
        self.extension.filter(|e| e.parallel.is_some())
    }

    /// Before the call, the thread takes the GIL, if there is one.
    fn need_gil(&self, call: Value) -> Result<(), String> {
        match self.parallel() {
            Some(extension) => parallel::call_glue(extension, call, "ame_extension_need_gil"),
            None => Ok(()),
        }
    }

    /// Before the call, a transaction ends, and its thread holds the domain.
    fn irrevocable(&self, call: Value, why: &str, report: &mut Report) {
        report.count("irrevocable");
        report.rule(call.block().function(), call, "call", "irrevocable", why);
        let function = runtime(self.module, "ame_elision_irrevocable", 1, false);
        self.builder.before(call);
        let why = text(self.module, why);
        self.builder.call(function.value_type(), function, &[why]);
    }
}

/// What a function does that takes arguments apart.
#[derive(Default)]
struct Parsed {
    /// Of arguments, as bits, that are converted by code of their own types, where it says so.
    positions: u64,
    /// Where results go: operands, and how many bytes.
    results: Vec<(u32, u64)>,
    /// Operands that are buffers, which are given back (`Py_buffer`).
    buffers: Vec<u32>,
}

/// Size of `Py_buffer`.
const BUFFER: u64 = 80;

/// `None` for formats that are not known, or do more.
fn parsed(call: Value, argument: u32) -> Option<Parsed> {
    if call.callee().name().contains("PyArg_Va") {
        return None;
    }
    let text = calls::constant_text(call.operand(argument))?;
    let mut items = text.split([':', ';']).next()?.bytes().peekable();
    // Names of arguments come before the places of results; they are only read.
    let mut place = argument + if argument == 2 { 2 } else { 1 };
    let (mut parsed, mut at, mut optional) = (Parsed::default(), 0u32, false);
    while let Some(c) = items.next() {
        let size = match c {
            b'|' | b'$' => {
                optional = true;
                continue;
            }
            b' ' => continue,
            b'c' | b'b' | b'B' => 1,
            b'h' | b'H' => 2,
            b'i' | b'I' | b'C' | b'p' | b'f' => 4,
            b'O' | b'U' | b'S' | b'Y' | b's' | b'z' | b'y' | b'l' | b'k' | b'L' | b'K' | b'n'
            | b'd' => 8,
            b'D' => 16,
            _ => return None,
        };
        if !b"OUSY".contains(&c) {
            parsed.positions |= 1u64.checked_shl(at)?;
        }
        at += 1;
        match items.peek() {
            Some(b'!') if c == b'O' => {
                items.next();
                place += 1;
                parsed.results.push((place, size));
            }
            Some(b'#') if b"szy".contains(&c) => {
                items.next();
                parsed.results.extend([(place, size), (place + 1, size)]);
                place += 1;
            }
            // One that was not given has nothing in it.
            Some(b'*') if b"sy".contains(&c) && !optional => {
                items.next();
                parsed.results.push((place, BUFFER));
                parsed.buffers.push(place);
            }
            Some(b'&' | b'*' | b'#' | b'!') => return None,
            _ => parsed.results.push((place, size)),
        }
        place += 1;
    }
    (place == call.arguments()).then_some(parsed)
}

/// Whether what the argument points to, if it is a pointer, is a variable of the function, or a constant.
fn is_local(argument: Value) -> bool {
    !argument.ty().is_pointer()
        || argument.is_null()
        || root(argument).opcode() == Some(Opcode::LLVMAlloca)
        || (argument.is_global_variable() && argument.is_constant_global())
}

/// Whether the module's functions of this kind are called in a transaction only.
pub fn is_body(function: Value) -> bool {
    function.is_function() && function.text_attribute(BODY).is_some()
}

/// Keeps a body that a thunk calls from being inlined there, where its accesses would have no barriers.
pub fn keep_apart(body: Value) {
    body.add_function_attribute(attribute_kind("noinline"));
    body.remove_function_attribute(attribute_kind("alwaysinline"));
}
