//! What in a file of a Python extension relies on a GIL, for `ame ext check`.
//!
//! Works on code as the front end emits it, with local variables in registers: nothing is inlined yet, and a
//! macro's accesses have the line where it is used. One JSON document per module goes into the folder that
//! AME_CHECK names; the command puts those of a package together, follows calls from file to file, and knows
//! the words for people. A finding here is a fact of one file, with its place.

mod api;
mod globals;
mod held;
mod places;
mod references;
mod unsupported;

use crate::ffi::{Module, Opcode, Value};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::path::Path;

/// Where something is in the source. Files are as the compiler was given them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    pub file: String,
    pub line: u32,
    /// Function that the place is in; empty for declarations.
    pub function: String,
}

/// What one file says.
#[derive(Default, Serialize)]
struct Unit {
    /// The source file, and the folder that relative names are relative to.
    file: String,
    folder: String,
    /// `PyInit_` functions, and how they make the module: `multi-phase`, `single-phase`.
    modules: BTreeMap<String, &'static str>,
    globals: Vec<globals::Global>,
    held: Vec<held::Held>,
    references: Vec<references::Reference>,
    unsupported: Vec<unsupported::Unsupported>,
    /// Functions with bodies here, by name.
    functions: BTreeMap<String, Function>,
    /// C interfaces of other extensions that are imported.
    capsules: Vec<Named>,
    /// Where the code releases the GIL itself.
    releases: Vec<Place>,
}

/// What a function does to a GIL.
#[derive(Default, Serialize)]
struct Function {
    /// Others in the program may call it.
    external: bool,
    /// Its address is known to more than its callers.
    given_away: bool,
    /// It runs when the module is imported or freed, and only then, says this file.
    init: bool,
    /// Arguments that point to what it may write.
    writes: Vec<u32>,
    /// A call of Python's API in it that may run Python code or release the GIL.
    #[serde(skip_serializing_if = "Option::is_none")]
    runs: Option<String>,
    /// Functions of other files, or of this one, that it calls.
    calls: Vec<String>,
}

#[derive(Serialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    place: Place,
}

/// File of the declaration and name of the field at a byte of a struct, as far as they were asked for.
type Fields = FxHashMap<(String, u64), Option<(String, String)>>;

/// What all parts of the check ask.
pub struct Context {
    pub module: Module,
    /// Functions that run only when the module is imported.
    pub init: FxHashSet<Value>,
    /// Those that may run Python code, directly or through others of this file: what they call for that.
    pub runs: FxHashMap<Value, String>,
    fields: RefCell<Fields>,
}

impl Context {
    /// Functions of the program with bodies, less those that headers bring along.
    pub fn bodies(&self) -> impl Iterator<Item = Value> + '_ {
        self.module
            .functions()
            .filter(|f| !f.is_declaration() && !is_of_header(*f))
    }

    /// Name of a struct's field, if the struct is the program's own.
    pub fn own_field(&self, name: &str, offset: u64) -> Option<String> {
        let key = (name.to_owned(), offset);
        let known = self.fields.borrow().get(&key).cloned();
        let found = known.unwrap_or_else(|| {
            let found = self.module.field(name, offset);
            self.fields.borrow_mut().insert(key, found.clone());
            found
        });
        let (file, field) = found?;
        (!is_python_header(&file) && !field.starts_with("ob_base")).then_some(field)
    }
}

/// Writes what there is to say of a module.
pub fn run(module: Module, folder: &Path) -> Result<(), String> {
    let mut unit = Unit {
        file: String::from_utf8_lossy(module.name()).into_owned(),
        folder: module.folder().unwrap_or_default(),
        ..Unit::default()
    };
    let context = Context {
        module,
        init: globals::init_functions(module),
        runs: held::runs(module),
        fields: Default::default(),
    };
    unit.globals = globals::find(&context);
    for function in context.bodies() {
        crate::plugin::set_current(function.name());
        unit.functions
            .insert(function.name().to_owned(), describe(&context, function));
        held::find(&context, function, &mut unit.held);
        references::find(&context, function, &mut unit.references);
        unsupported::find(function, &mut unit.unsupported);
        notes(function, &mut unit);
    }
    held::find_callbacks(&context, &mut unit.held);
    unsupported::find_members(module, &mut unit.unsupported);
    let text = serde_json::to_string(&unit).map_err(|e| format!("AME_CHECK: {e}"))?;
    let path = folder.join(file_name(&unit));
    std::fs::write(&path, text).map_err(|e| {
        format!(
            "AME_CHECK: cannot write {}: {e}; it names a folder",
            path.display()
        )
    })
}

/// The same for the same file of a package: one that is compiled twice counts once.
fn file_name(unit: &Unit) -> String {
    let mut hash = rustc_hash::FxHasher::default();
    (&unit.folder, &unit.file).hash(&mut hash);
    format!("{:016x}.json", hash.finish())
}

fn describe(context: &Context, function: Value) -> Function {
    let mut calls: Vec<String> = calls(function)
        .map(|call| target(call.callee()))
        .filter(|f| f.is_function() && !f.name().starts_with("llvm.") && !is_of_header(*f))
        .filter(|f| !api::is_python(f.name()))
        .map(|f| f.name().to_owned())
        .collect();
    calls.sort();
    calls.dedup();
    Function {
        external: !function.is_internal(),
        given_away: held::is_callback(function),
        init: context.init.contains(&function),
        writes: globals::written_arguments(context, function),
        runs: context.runs.get(&function).cloned(),
        calls,
    }
}

/// Module definitions, capsules and releases of the GIL.
fn notes(function: Value, unit: &mut Unit) {
    let name = function.name();
    for call in calls(function) {
        let callee = target(call.callee());
        if !callee.is_function() {
            continue;
        }
        match callee.name() {
            "PyModuleDef_Init" if name.starts_with("PyInit_") => {
                unit.modules.insert(name[7..].to_owned(), "multi-phase");
            }
            "PyModule_Create2" if name.starts_with("PyInit_") => {
                unit.modules.insert(name[7..].to_owned(), "single-phase");
            }
            "PyCapsule_Import" => unit.capsules.push(Named {
                name: text(call.operand(0)).unwrap_or_default(),
                place: place(function, call),
            }),
            "PyEval_SaveThread" => unit.releases.push(place(function, call)),
            _ => {}
        }
    }
    if let Some(module) = name.strip_prefix("PyInit_") {
        // The definition may be made by a function that PyInit calls.
        unit.modules
            .entry(module.to_owned())
            .or_insert("single-phase");
    }
}

/// Calls of a function, in its order.
pub fn calls(function: Value) -> impl Iterator<Item = Value> {
    function
        .blocks()
        .flat_map(|b| b.instructions())
        .filter(|i| matches!(i.opcode(), Some(Opcode::LLVMCall | Opcode::LLVMInvoke)))
}

/// A callee without aliases.
pub fn target(mut callee: Value) -> Value {
    while callee.is_alias() {
        callee = callee.aliasee();
    }
    callee
}

/// Where an instruction is.
pub fn place(function: Value, at: Value) -> Place {
    let (file, line) = at
        .location()
        .or_else(|| function.definition())
        .unwrap_or_default();
    Place {
        file,
        line,
        function: function.name().to_owned(),
    }
}

/// Bytes of a string literal.
fn text(pointer: Value) -> Option<String> {
    if !pointer.is_global_variable() {
        return None;
    }
    pointer.initializer()?.constant_string()
}

pub fn is_python_header(file: &str) -> bool {
    file.contains("/include/python3")
}

/// Inline functions of headers, of Python or the system.
fn is_of_header(function: Value) -> bool {
    function
        .definition()
        .is_some_and(|(file, _)| is_python_header(&file) || file.starts_with("/usr/"))
}
