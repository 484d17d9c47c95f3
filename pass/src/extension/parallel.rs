//! Entries that run without the GIL of the interpreter, where it has one.
//!
//! An entry comes with the GIL, and gives it up where a stretch of code begins that needs nothing of Python
//! ([`Points`]): a loop, or a call of a function of the extension or of another library. Where code needs
//! the GIL, it takes it: bodies ([`super::bodies`]) and the plain code that runs with the domain held.
//! To give it up too late costs time, to give it up where it is needed again at once costs a little: so
//! these places need not be right, only good.

use super::bodies::{is_body, Bodies, HEADER};
use super::reports::shared_field;
use super::{is_api, is_glue, Extension};
use crate::analysis::cfg::{Cfg, NONE};
use crate::analysis::loops::Loops;
use crate::attributes::PARALLEL;
use crate::ffi::{Module, Opcode, Value};
use crate::instrument::calls as calls_of;
use crate::options::Parallel;
use crate::report::Report;
use crate::tag::annotations;
use ame_annotations::Sets;
use rustc_hash::FxHashSet;

/// What `AME_PARALLEL_MODULE` defines.
const WHOLE_MODULE: &str = "ame_parallel_module";

/// The functions of a file that run without the GIL.
pub struct Marked {
    all: bool,
    names: Vec<String>,
    in_source: FxHashSet<Value>,
}

impl Marked {
    /// Those that the user names, and those that the source marks.
    pub fn find(module: Module, parallel: &Parallel) -> Result<Marked, String> {
        let annotated: Vec<_> = annotations(module)
            .into_iter()
            .filter(|a| a.text == PARALLEL && a.what.is_function())
            .map(|a| (a.what, a.located(UNREACHABLE)))
            .collect();
        // The list knows the functions by their addresses, which is no way to reach them.
        if let Some(list) = module.global("llvm.global.annotations") {
            list.delete_variable();
        }
        for (function, problem) in &annotated {
            if !function.is_address_taken() {
                return Err(problem.clone());
            }
        }
        for name in &parallel.names {
            let function = module.function(name).filter(|f| !f.is_declaration());
            if function.is_some_and(|f| f.is_internal() && !f.is_address_taken()) {
                return Err(format!(
                    "ame.toml or AME_PARALLEL names {name}: {UNREACHABLE}"
                ));
            }
        }
        Ok(Marked {
            all: parallel.all || module.global(WHOLE_MODULE).is_some(),
            names: parallel.names.clone(),
            in_source: annotated
                .into_iter()
                .map(|(function, _)| function)
                .collect(),
        })
    }

    pub fn has(&self, function: Value) -> bool {
        self.all
            || self.in_source.contains(&function)
            || self.names.iter().any(|name| name == function.name())
    }
}

const UNREACHABLE: &str =
    "Python cannot reach this function by itself, for its address stands in no table of this \
    file: mark the function of the method table, or type slot, that calls it";

/// Functions of CPython that need no GIL.
pub const WITHOUT_GIL: [&str; 4] = [
    "PyMem_RawMalloc",
    "PyMem_RawCalloc",
    "PyMem_RawRealloc",
    "PyMem_RawFree",
];

/// Before `at`, a function of the header without arguments is called.
pub fn call_glue(extension: &Extension, at: Value, name: &str) -> Result<(), String> {
    let function = extension.function(name)?;
    extension.builder.before(at);
    extension.builder.call(function.value_type(), function, &[]);
    Ok(())
}

/// What a call, or a function, is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    Python,
    Nothing,
    /// It may take long, and knows nothing of Python.
    Work,
}

/// Places in bodies.
pub struct Points {
    /// Before these the GIL is given up.
    spare: Vec<Value>,
    /// Before these it is taken, for a moment.
    need: Vec<Value>,
    /// Before these it is taken, until the entry ends.
    keep: Vec<Value>,
}

impl Points {
    pub fn find(extension: &Extension, bodies: &Bodies, libc: &Sets) -> Points {
        let about = Functions::new(extension, bodies, libc);
        let mut points = Points {
            spare: Vec::new(),
            need: Vec::new(),
            keep: Vec::new(),
        };
        let plain = extension.module.functions();
        for function in plain.filter(|&f| !f.is_declaration() && !is_body(f) && !is_glue(f)) {
            let body = bodies.get(function);
            // What needs no GIL is called without.
            let spares = about.python.contains(&function) || function.is_address_taken();
            for code in [Some(function), body].into_iter().flatten() {
                for at in code.blocks().flat_map(|b| b.instructions()) {
                    if !looks_inside(extension, at) {
                        continue;
                    }
                    // Functions of CPython's headers look for a moment only.
                    match is_api(function.name()) {
                        true => points.need.push(at),
                        false => points.keep.push(at),
                    }
                }
                if spares && body.is_some() {
                    about.places(code, &mut points.spare);
                }
            }
            // Bodies look after their calls themselves.
            points.need.extend(calls_of(function).filter(|&call| {
                let callee = call.callee();
                let is_count = HEADER.iter().any(|(header, _)| *header == callee.name());
                let is_own = bodies.get(callee).is_some() && !is_count;
                callee.is_function() && !is_own && about.of(call) == About::Python
            }));
        }
        points
    }

    pub fn insert(&self, extension: &Extension, report: &mut Report) -> Result<(), String> {
        let all = [
            (&self.spare, "ame_extension_spare_gil", "gil_spared"),
            (&self.need, "ame_extension_need_gil", "gil_needed"),
            (&self.keep, "ame_extension_keep_gil", "gil_kept"),
        ];
        for (places, glue, count) in all {
            for &at in places {
                call_glue(extension, at, glue)?;
                report.count(count);
            }
        }
        Ok(())
    }
}

/// Whether an instruction looks for the insides of an object that other threads may change.
fn looks_inside(extension: &Extension, at: Value) -> bool {
    match at.opcode() {
        Some(Opcode::LLVMGetElementPtr) => shared_field(extension, at).is_some(),
        Some(Opcode::LLVMCall) => {
            let callee = at.callee();
            callee.is_function() && callee.name().starts_with("PyByteArray_A")
        }
        _ => false,
    }
}

/// What the functions of a file are about.
struct Functions<'a> {
    extension: &'a Extension<'a>,
    bodies: &'a Bodies,
    libc: &'a Sets,
    python: FxHashSet<Value>,
    work: FxHashSet<Value>,
}

impl Functions<'_> {
    fn new<'a>(extension: &'a Extension, bodies: &'a Bodies, libc: &'a Sets) -> Functions<'a> {
        let mut all = Functions {
            extension,
            bodies,
            libc,
            python: FxHashSet::default(),
            work: FxHashSet::default(),
        };
        let own: Vec<Value> = bodies.all().map(|(function, _)| function).collect();
        for &function in &own {
            let cfg = Cfg::new(function);
            if !Loops::new(&cfg).all.is_empty() {
                all.work.insert(function);
            }
        }
        loop {
            let before = (all.python.len(), all.work.len());
            for &function in &own {
                for at in function.blocks().flat_map(|b| b.instructions()) {
                    match all.of(at) {
                        About::Python => all.python.insert(function),
                        About::Work => all.work.insert(function),
                        About::Nothing => false,
                    };
                }
            }
            if before == (all.python.len(), all.work.len()) {
                return all;
            }
        }
    }

    fn of(&self, at: Value) -> About {
        if looks_inside(self.extension, at) {
            return About::Python;
        }
        if at.opcode() != Some(Opcode::LLVMCall) {
            return About::Nothing;
        }
        let callee = at.callee();
        if callee.is_inline_asm() {
            return About::Nothing;
        }
        if !callee.is_function() {
            // In a file with `Python.h` most often a slot of a type.
            return About::Python;
        }
        let name = callee.name();
        if name.starts_with("llvm.")
            || name.starts_with("ame_elision_")
            || WITHOUT_GIL.contains(&name)
        {
            return About::Nothing;
        }
        if is_glue(callee) || HEADER.iter().any(|(header, _)| *header == name) {
            return About::Python;
        }
        if self.bodies.get(callee).is_some() {
            return match (self.python.contains(&callee), self.work.contains(&callee)) {
                (true, _) => About::Python,
                (false, true) => About::Work,
                (false, false) => About::Nothing,
            };
        }
        if is_api(name) || !callee.is_declaration() {
            return About::Python;
        }
        match self.libc.function(name) {
            Some(_) => About::Nothing,
            None => About::Work,
        }
    }

    /// In a function: before the outermost loops, and calls outside of these, that are not about Python.
    fn places(&self, body: Value, places: &mut Vec<Value>) {
        let cfg = Cfg::new(body);
        let loops = Loops::new(&cfg);
        let is_python = |&block: &u32| {
            let mut instructions = cfg.blocks[block as usize].instructions();
            instructions.any(|at| self.of(at) == About::Python)
        };
        let free: Vec<bool> = loops
            .all
            .iter()
            .map(|l| !l.body.iter().any(is_python))
            .collect();
        let is_free = |id: u32| id != NONE && free[id as usize];
        for (at, free) in loops.all.iter().zip(&free) {
            if !free || is_free(at.parent) {
                continue;
            }
            let before = match at.preheader {
                Some(block) => cfg.blocks[block as usize].terminator(),
                None => cfg.blocks[at.header as usize].first_insertion_point(),
            };
            places.extend(before);
        }
        for (number, block) in cfg.blocks.iter().enumerate() {
            if !is_free(loops.innermost[number]) {
                places.extend(
                    block
                        .instructions()
                        .filter(|&at| self.of(at) == About::Work),
                );
            }
        }
    }
}
