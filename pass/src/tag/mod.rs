//! The tag phase, at the start of the pipeline: what must be known before fields become plain
//! addresses and functions are inlined.
//!
//! Kinds that only save work become `!ame` metadata ([`crate::marks`]). Kinds that change what an
//! access means are rewritten here: counts, ids, per-thread copies, replaced functions.

mod clones;
mod counts;
mod functions;
mod per_thread;
mod points;

use crate::analysis::address::root;
use crate::attributes::{self, CLONE};
use crate::ffi::{attribute_kind, Builder, Module, Opcode, Value};
use crate::instrument::runtime::Runtime;
use crate::marks::{of_field, Kind, Mark, Marks};
use crate::options::Options;
use crate::report::Report;
use ame_annotations::{FieldKind, FunctionKind, Sets};
pub use functions::annotations;
use points::Resolver;

/// Named metadata of a module that has been tagged.
const DONE: &str = "ame.tagged";

/// An access that is rewritten rather than marked.
struct Rewrite {
    access: Value,
    kind: FieldKind,
    /// Where the object of kind `per_thread` begins.
    object: Option<per_thread::Object>,
}

/// Tags a module; true when it was changed.
pub fn run(module: Module, sets: &Sets, options: &Options) -> Result<bool, String> {
    if module.has_named_metadata(DONE) {
        return Ok(false);
    }
    let mut report = Report::new(module, options);
    let mut resolver = Resolver::new(module, sets);
    functions::read_annotations(module, &mut resolver)?;
    if options.optimise.clone {
        clones::make(module, sets);
    }
    clones::answer(module);
    functions::replace_defined(module, sets);
    functions::copy_accessors(module, sets);
    let marks = Marks::new(module);
    let mut runtime = Runtime::new(module);
    let bodies: Vec<Value> = module.functions().filter(|f| !f.is_declaration()).collect();
    for function in bodies {
        crate::plugin::set_current(function.name());
        if function.text_attribute(CLONE).is_some() {
            tag_clone(&mut resolver, &marks, &mut runtime, &mut report, function);
            strip_annotations(function);
            resolver.next_function();
            continue;
        }
        let rule = attributes::rule(function, sets).unwrap_or_default();
        // Its body says so when it is instrumented (`entry_kind`), which must not be a part of a caller's then.
        if matches!(
            rule.kind,
            FunctionKind::Inevitable | FunctionKind::Exclusive
        ) {
            function.remove_function_attribute(attribute_kind("alwaysinline"));
            function.add_function_attribute(attribute_kind("noinline"));
        }
        if !matches!(rule.kind, FunctionKind::Safe | FunctionKind::Pure) {
            let has_kind = rule.accesses.and_then(of_field).is_some();
            split_small_copies(&mut resolver, &runtime.builder, function, has_kind);
            let rewrites = tag(&mut resolver, &marks, &mut report, function, rule.accesses)?;
            per_thread::rewrite(&mut runtime, &mut report, function, &rewrites);
            counts::rewrite(&mut runtime, &marks, &mut report, function, &rewrites);
            inline_early(function);
        }
        strip_annotations(function);
        resolver.next_function();
    }
    module.add_named_metadata(DONE, module.string_node(&[env!("CARGO_PKG_VERSION")]));
    report.write("tag", options)?;
    Ok(true)
}

/// Makes a load and a store of a copy whose memory has a kind, so that they can be marked. The front end
/// assigns small structs (a counter of bit fields) by `memcpy`, and the optimiser does this later.
/// `all`: every access of the function has a kind.
fn split_small_copies(resolver: &mut Resolver, builder: &Builder, function: Value, all: bool) {
    let module = resolver.module;
    let copies: Vec<(Value, u64)> = function
        .blocks()
        .flat_map(|b| b.instructions())
        .filter(|at| at.opcode() == Some(Opcode::LLVMCall))
        .filter(|call| call.callee().is_function())
        .filter(|call| call.callee().name().starts_with("llvm.memcpy.p0.p0."))
        .filter_map(|call| Some((call, call.operand(2).as_u64()?)))
        .filter(|(call, size)| {
            let mut marked = |pointer| {
                let kind = resolver.points(pointer).kind(*size);
                kind.and_then(of_field).is_some()
            };
            matches!(size, 1 | 2 | 4 | 8)
                && call.operand(3).as_u64() == Some(0)
                && (all || marked(call.operand(0)) || marked(call.operand(1)))
        })
        .collect();
    for (call, size) in copies {
        let (to, from) = (call.operand(0), call.operand(1));
        let alignment = |pointer| module.pointer_alignment(pointer) as u32;
        builder.before(call);
        let value = builder.load(module.int(size as u32 * 8), from, alignment(from));
        builder.store(value, to, alignment(to));
        call.erase();
    }
    // New instructions may lie where the old ones did.
    resolver.next_function();
}

/// A plain clone needs nothing but what holds outside transactions, too.
fn tag_clone(
    resolver: &mut Resolver,
    marks: &Marks,
    runtime: &mut Runtime,
    report: &mut Report,
    function: Value,
) {
    let mut rewrites = Vec::new();
    for at in function.blocks().flat_map(|b| b.instructions()) {
        let (pointer, ty) = match at.opcode() {
            Some(Opcode::LLVMLoad) => (at.operand(0), at.ty()),
            Some(Opcode::LLVMStore) => (at.operand(1), at.operand(0).ty()),
            _ => continue,
        };
        if root(pointer).opcode() == Some(Opcode::LLVMAlloca) {
            continue;
        }
        let size = resolver.module.store_size(ty);
        let points = resolver.access(at, pointer, size);
        if let Some(kind @ (FieldKind::PerThread | FieldKind::Unique)) = points.kind(size) {
            let object = per_thread::Object::new(&points);
            rewrites.push(Rewrite {
                access: at,
                kind,
                object,
            });
        }
    }
    per_thread::rewrite(runtime, report, function, &rewrites);
    counts::rewrite(runtime, marks, report, function, &rewrites);
}

/// Instructions, before any optimisation, of functions that are surely inlined.
const SMALL: usize = 40;

/// Small accessors are inlined before LLVM can pass what they read instead of where it is (argument
/// promotion): its new loads, in the callers, have no marks.
fn inline_early(function: Value) {
    let eligible = function.is_internal()
        && !function.value_type().is_variadic()
        && !function.function_has(attribute_kind("optnone"))
        && !function.function_has(attribute_kind("noinline"));
    if !eligible {
        return;
    }
    let mut n = 0;
    for at in function.blocks().flat_map(|b| b.instructions()) {
        let calls_itself = at.opcode() == Some(Opcode::LLVMCall) && at.callee() == function;
        n += 1;
        if n > SMALL || calls_itself || at.opcode() == Some(Opcode::LLVMIndirectBr) {
            return;
        }
    }
    function.add_function_attribute(attribute_kind("alwaysinline"));
}

/// Marks the accesses of a function; returns those that are to be rewritten.
fn tag(
    resolver: &mut Resolver,
    marks: &Marks,
    report: &mut Report,
    function: Value,
    all: Option<FieldKind>,
) -> Result<Vec<Rewrite>, String> {
    let mut rewrites = Vec::new();
    for at in function.blocks().flat_map(|b| b.instructions()) {
        let (pointer, ty, word) = match at.opcode() {
            Some(Opcode::LLVMLoad) => (at.operand(0), at.ty(), "read"),
            Some(Opcode::LLVMStore) => (at.operand(1), at.operand(0).ty(), "write"),
            Some(Opcode::LLVMAtomicRMW | Opcode::LLVMAtomicCmpXchg) => {
                (at.operand(0), at.operand(1).ty(), "write")
            }
            Some(Opcode::LLVMCall) => {
                check_annotation(at)?;
                tag_copy(resolver, marks, at, all);
                continue;
            }
            _ => continue,
        };
        // Local variables: most of all accesses before mem2reg.
        if root(pointer).opcode() == Some(Opcode::LLVMAlloca) {
            continue;
        }
        let size = resolver.module.store_size(ty);
        let points = resolver.access(at, pointer, size);
        let field = points.kind(size);
        let changes_meaning = field.is_some_and(|k| of_field(k).is_none());
        // Who only wants to know something that changes never alter, as the sign of a count.
        let glance = all == Some(FieldKind::Racy) && at.opcode() == Some(Opcode::LLVMLoad);
        let kind = if changes_meaning && !glance {
            field
        } else {
            all.or(field)
        };
        let residue = points.residue();
        let Some(kind) = kind else {
            marks.set(
                at,
                Mark {
                    kind: Kind::Normal,
                    residue,
                },
            );
            continue;
        };
        report.count("tagged");
        if report.wants_remarks() {
            let place = match points.places.first() {
                Some(p) => format!("{} + {}", p.name, p.offset),
                None => "variable, attribute or function".to_owned(),
            };
            report.rule(function, at, word, kind.as_str(), &place);
        }
        match of_field(kind) {
            Some(kind) => marks.set(at, Mark { kind, residue }),
            None => {
                let object = per_thread::Object::new(&points);
                rewrites.push(Rewrite {
                    access: at,
                    kind,
                    object,
                });
            }
        }
    }
    Ok(rewrites)
}

/// Marks what a copy reads and writes, and what is filled.
fn tag_copy(resolver: &mut Resolver, marks: &Marks, call: Value, all: Option<FieldKind>) {
    let callee = call.callee();
    let starts =
        |names: &[&str]| callee.is_function() && names.iter().any(|n| callee.name().starts_with(n));
    let arguments = if starts(&["llvm.memcpy.", "llvm.memmove."]) {
        0..2
    } else if starts(&["llvm.memset."]) {
        0..1
    } else {
        return;
    };
    let size = call.operand(2).as_u64();
    for argument in arguments {
        let points = resolver.points(call.operand(argument));
        // A field says nothing about what follows it.
        let known = size.map_or(points.kind, |size| points.kind(size));
        if let Some(kind) = all.or(known).and_then(of_field) {
            marks.set_argument(call, argument, kind);
        }
    }
}

/// Finds misspelt attributes.
fn check_annotation(call: Value) -> Result<(), String> {
    let callee = call.callee();
    if callee.is_function() && callee.name().starts_with("llvm.ptr.annotation") {
        if let Some(Err(problem)) = points::pointer_annotation(call) {
            let file = call
                .operand(2)
                .initializer()
                .and_then(|t| t.constant_string());
            let line = call.operand(3).as_u64().unwrap_or(0);
            return Err(format!("{}:{line}: {problem}", file.unwrap_or_default()));
        }
    }
    Ok(())
}

/// Removes our `llvm.ptr.annotation` calls, which hinder the optimiser.
fn strip_annotations(function: Value) {
    let calls: Vec<Value> = function
        .blocks()
        .flat_map(|b| b.instructions())
        .filter(|i| i.opcode() == Some(Opcode::LLVMCall))
        .filter(|i| {
            let callee = i.callee();
            callee.is_function() && callee.name().starts_with("llvm.ptr.annotation")
        })
        .filter(|i| points::pointer_annotation(*i).is_some())
        .collect();
    for call in calls {
        call.replace_with(call.operand(0));
        call.erase();
    }
}
