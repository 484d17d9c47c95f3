//! Variables that live as long as the process, and who writes them.

use super::{place, target, Context, Place};
use crate::ffi::{Module, Opcode, Value};
use rustc_hash::FxHashSet;
use serde::Serialize;

/// A variable that is not constant.
#[derive(Serialize)]
pub struct Global {
    name: String,
    #[serde(rename = "type")]
    ty: String,
    file: String,
    line: u32,
    /// Function that it is local to.
    #[serde(skip_serializing_if = "Option::is_none")]
    local_to: Option<String>,
    /// Other files know it by this name.
    external: bool,
    /// Defined here, not only used.
    defined: bool,
    thread_local: bool,
    /// What it is to Python, if anything: `type`, `table` (methods, members, slots, a module's definition).
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// A pointer whose users look whether it is null and fill it then.
    lazy: bool,
    writes: Vec<Write>,
    /// Calls that get its address, and may write it.
    passed: Vec<Passed>,
    reads: usize,
}

#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Write {
    #[serde(flatten)]
    place: Place,
    /// When the module is imported, and only then.
    init: bool,
}

#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Passed {
    to: String,
    argument: u32,
    #[serde(flatten)]
    place: Place,
    init: bool,
}

/// `PyInit_` functions, those that the module's definition names to be executed or to free it, and what only
/// they call.
pub fn init_functions(module: Module) -> FxHashSet<Value> {
    let mut init: FxHashSet<Value> = module
        .functions()
        .filter(|f| f.name().starts_with("PyInit_") && !f.is_declaration())
        .collect();
    for table in module.globals() {
        let is_slots = table.value_type().element().is_some_and(|e| {
            e.struct_name()
                .is_some_and(|n| n.starts_with("struct.PyModuleDef_Slot"))
        });
        let Some(content) = table.initializer().filter(|_| is_slots) else {
            continue;
        };
        for slot in (0..content.operands()).map(|i| content.operand(i)) {
            // Py_mod_create is 1, Py_mod_exec 2.
            if slot.operands() == 2 && matches!(slot.operand(0).as_u64(), Some(1 | 2)) {
                init.insert(target(slot.operand(1)));
            }
        }
    }
    // m_clear and m_free: the last two of nine.
    for definition in module.globals() {
        let is_one = definition
            .value_type()
            .struct_name()
            .is_some_and(|n| super::places::plain_name(n) == "PyModuleDef");
        let content = definition
            .initializer()
            .filter(|c| is_one && c.operands() == 9);
        init.extend(
            content
                .iter()
                .flat_map(|c| [target(c.operand(7)), target(c.operand(8))]),
        );
    }
    init.retain(|f| f.is_function() && !f.is_declaration());
    loop {
        let more: Vec<Value> = module
            .functions()
            .filter(|f| !f.is_declaration() && f.is_internal() && !init.contains(f))
            .filter(|f| f.has_uses() && f.users().all(|user| is_call_in(user, *f, &init)))
            .collect();
        if more.is_empty() {
            return init;
        }
        init.extend(more);
    }
}

/// Whether the user calls the function, in one of these.
fn is_call_in(user: Value, function: Value, these: &FxHashSet<Value>) -> bool {
    user.is_instruction()
        && matches!(user.opcode(), Some(Opcode::LLVMCall | Opcode::LLVMInvoke))
        && user.callee() == function
        && these.contains(&user.block().function())
}

/// Arguments that are pointers to what the function may write, as far as this file tells.
pub fn written_arguments(context: &Context, function: Value) -> Vec<u32> {
    let mut found = Vec::new();
    for (index, parameter) in function.parameters().into_iter().enumerate() {
        let mut uses = Uses::default();
        uses.follow(context, parameter);
        if !uses.writes.is_empty() || !uses.passed.is_empty() {
            found.push(index as u32);
        }
    }
    found
}

pub fn find(context: &Context) -> Vec<Global> {
    context
        .module
        .globals()
        .filter(|g| !g.is_constant_global() && !g.name().starts_with("llvm."))
        .filter_map(|g| look(context, g))
        .collect()
}

fn look(context: &Context, variable: Value) -> Option<Global> {
    let defined = variable.initializer().is_some();
    let declaration = variable.declaration();
    // String literals have no declaration; neither have variables of Python and libc.
    if defined && declaration.is_none() {
        return None;
    }
    let is_libc = |name: &str| matches!(name, "stdin" | "stdout" | "stderr" | "environ");
    if !defined && (super::api::is_python(variable.name()) || is_libc(variable.name())) {
        return None;
    }
    let mut uses = Uses::default();
    uses.follow(context, variable);
    uses.writes.sort();
    uses.writes.dedup();
    uses.passed.sort();
    uses.passed.dedup();
    let (file, line, name, ty, local_to) = match declaration {
        Some(d) => (d.file, d.line, d.name, d.ty, d.function),
        None => Default::default(),
    };
    if super::is_python_header(&file) || file.starts_with("/usr/") {
        return None;
    }
    Some(Global {
        name: if name.is_empty() {
            variable.name().to_owned()
        } else {
            name
        },
        role: role(variable),
        lazy: variable.value_type().is_pointer() && uses.lazy,
        external: !variable.is_internal(),
        defined,
        thread_local: variable.is_thread_local(),
        writes: uses.writes,
        passed: uses.passed,
        reads: uses.reads,
        file,
        line,
        ty,
        local_to,
    })
}

/// What Python makes of a variable, by its type or that of its elements.
fn role(variable: Value) -> Option<&'static str> {
    let mut ty = variable.value_type();
    while let Some(element) = ty.element() {
        ty = element;
    }
    let name = ty.struct_name()?;
    const TABLES: [&str; 14] = [
        "struct.PyModuleDef",
        "struct.PyMethodDef",
        "struct.PyMemberDef",
        "struct.PyGetSetDef",
        "struct.PyNumberMethods",
        "struct.PySequenceMethods",
        "struct.PyMappingMethods",
        "struct.PyBufferProcs",
        "struct.PyAsyncMethods",
        "struct.PyType_S",
        "struct.PyModuleDef_Slot",
        "struct._PyArg_Parser",
        "struct._Py_Identifier",
        "struct.PyStructSequence",
    ];
    if name == "struct._typeobject" {
        Some("type")
    } else if TABLES.iter().any(|start| name.starts_with(start)) {
        Some("table")
    } else {
        None
    }
}

#[derive(Default)]
struct Uses {
    writes: Vec<Write>,
    passed: Vec<Passed>,
    reads: usize,
    lazy: bool,
    seen: FxHashSet<Value>,
}

impl Uses {
    /// Follows a pointer into the variable to all that is done with it.
    fn follow(&mut self, context: &Context, pointer: Value) {
        if !self.seen.insert(pointer) {
            return;
        }
        for user in pointer.users() {
            if !user.is_instruction() {
                // An address in a table, or one computed from it.
                if user.opcode().is_some() {
                    self.follow(context, user);
                }
                continue;
            }
            match user.opcode() {
                Some(Opcode::LLVMLoad) => self.read(user),
                Some(Opcode::LLVMStore) if user.operand(1) == pointer => {
                    self.write(context, user);
                }
                Some(Opcode::LLVMAtomicRMW | Opcode::LLVMAtomicCmpXchg)
                    if user.operand(0) == pointer =>
                {
                    self.write(context, user);
                }
                Some(
                    Opcode::LLVMGetElementPtr
                    | Opcode::LLVMBitCast
                    | Opcode::LLVMPHI
                    | Opcode::LLVMSelect,
                ) => self.follow(context, user),
                Some(Opcode::LLVMCall | Opcode::LLVMInvoke) => self.call(context, user, pointer),
                _ => {}
            }
        }
    }

    fn read(&mut self, load: Value) {
        self.reads += 1;
        self.lazy |= load.users().any(|user| {
            user.opcode() == Some(Opcode::LLVMICmp)
                && (user.operand(0).is_null() || user.operand(1).is_null())
        });
    }

    fn write(&mut self, context: &Context, at: Value) {
        let function = at.block().function();
        self.writes.push(Write {
            place: place(function, at),
            init: context.init.contains(&function),
        });
    }

    fn call(&mut self, context: &Context, call: Value, pointer: Value) {
        let callee = target(call.callee());
        let name = if callee.is_function() {
            callee.name()
        } else {
            "a function pointer"
        };
        if let Some(intrinsic) = name.strip_prefix("llvm.") {
            let writes = ["memcpy", "memmove", "memset"]
                .iter()
                .any(|start| intrinsic.starts_with(start));
            if intrinsic.starts_with("threadlocal.address") {
                self.follow(context, call);
            } else if writes && call.operand(0) == pointer {
                self.write(context, call);
            } else if writes {
                self.reads += 1;
            }
            return;
        }
        let function = call.block().function();
        for argument in (0..call.arguments()).filter(|&n| call.operand(n) == pointer) {
            if let Some(first) = super::api::outputs(name) {
                if argument >= first {
                    self.write(context, call);
                }
            } else if callee.is_function()
                && !callee.is_declaration()
                && !super::is_of_header(callee)
            {
                // Not among the variadic ones.
                if let Some(&parameter) = callee.parameters().get(argument as usize) {
                    self.follow(context, parameter);
                }
            } else {
                self.passed.push(Passed {
                    to: name.to_owned(),
                    argument,
                    place: place(function, call),
                    init: context.init.contains(&function),
                });
            }
        }
    }
}
