//! The instrument phase, at the end of the optimiser: analyse, choose, optimise, rewrite.

pub mod choose;
mod clones;
mod frame;
mod functions;
pub use clones::{calls, changes_mode, is_hot};
pub use functions::replace as replace_function;
mod hoist;
mod module;
mod optimise;
pub mod plan;
mod polls;
mod rewrite;
pub mod runtime;
mod stream;
mod text;

use crate::analysis::cfg::Cfg;
use crate::analysis::epoch::Epochs;
use crate::analysis::escape::Escapes;
use crate::analysis::loops::Loops;
use crate::attributes::{self, CLONE};
use crate::callee::Callees;
use crate::ffi::{attribute_kind, Module, Opcode, Value};
use crate::marks::Marks;
use crate::options::Options;
use crate::report::Report;
use ame_annotations::{FunctionKind, Sets};
use choose::{Chooser, Kinds};
use runtime::Runtime;

/// Named metadata of a module that has been instrumented.
const DONE: &str = "ame.instrumented";

/// What a function's body is to the pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    Instrument,
    /// Handles transactions itself: prefix, no barriers.
    Safe,
    LeaveAlone,
}

/// Instruments a module; true when it was changed.
pub fn run(module: Module, sets: &Sets, options: &Options) -> Result<bool, String> {
    if module.has_named_metadata(DONE) {
        return Ok(false);
    }
    let triple = module.triple();
    if !triple.is_empty() && !(triple.starts_with("x86_64") && triple.contains("linux")) {
        return Err(format!(
            "the target {triple} is not supported: the runtime is for x86-64 Linux"
        ));
    }
    let mut report = Report::new(module, options);
    functions::replace_external(module, sets);
    // They run before thread-local data are in place, on which barriers rely.
    let early: Vec<Value> = module.ifunc_resolvers().collect();
    let bodies: Vec<(Value, Body)> = module
        .functions()
        .filter(|f| !f.is_declaration())
        .map(|f| match early.contains(&f) {
            true => (f, Body::LeaveAlone),
            false => (f, body(f, sets)),
        })
        .collect();
    if !bodies.is_empty() {
        let mut callees = Callees::new(sets);
        if options.optimise.summary {
            let quiet = functions::quiet(module, &mut callees);
            callees.set_quiet(quiet);
        }
        let normal: Vec<Value> = bodies
            .iter()
            .filter(|(_, body)| *body == Body::Instrument)
            .map(|(f, _)| *f)
            .collect();
        for &function in &normal {
            refuse_sanitizers(function)?;
        }
        let clones = clones::find(module, sets, &mut callees)?;
        report.add("clones", clones.twins.len() as u64);
        let mut pass = Instrumenter::new(module, sets, options, callees, report);
        for &(function, body) in &bodies {
            if body == Body::LeaveAlone {
                continue;
            }
            let is_twin = clones.twins.iter().any(|t| t.is_of(function));
            if body == Body::Instrument {
                pass.instrument(function, is_twin);
            } else {
                // The runtime's names are only known to be safe here.
                clones::expand_markers(&pass.runtime, function);
            }
            if is_twin {
                // The dispatcher gets it.
            } else if function.has_prefix_data() {
                pass.report.count("prefix_taken");
            } else {
                pass.runtime.set_prefix(function);
            }
        }
        clones::finish(&mut pass.runtime, sets, clones);
        frame::separate_variables(&pass.runtime);
        module::register(&mut pass.runtime, sets);
        report = pass.report;
    }
    module.add_named_metadata(DONE, module.string_node(&[env!("CARGO_PKG_VERSION")]));
    report.add("functions", bodies.len() as u64);
    report.write("instrument", options)?;
    Ok(true)
}

/// Gives barriers to the bodies of an extension, which make no call that they have not prepared for; true when
/// there are some.
pub fn bodies(module: Module, sets: &Sets, options: &Options) -> Result<bool, String> {
    let all: Vec<Value> = module
        .functions()
        .filter(|f| !f.is_declaration() && f.text_attribute(attributes::BODY).is_some())
        .collect();
    if all.is_empty() || module.has_named_metadata(DONE) {
        return Ok(false);
    }
    let report = Report::new(module, options);
    let mut pass = Instrumenter::new(module, sets, options, Callees::prepared(sets), report);
    for &function in &all {
        refuse_sanitizers(function)?;
        pass.instrument(function, true);
    }
    frame::separate_variables(&pass.runtime);
    module.add_named_metadata(DONE, module.string_node(&[env!("CARGO_PKG_VERSION")]));
    pass.report.write("instrument", options)?;
    Ok(true)
}

/// What giving functions of a module their barriers takes.
struct Instrumenter<'a> {
    module: Module,
    sets: &'a Sets,
    options: &'a Options,
    callees: Callees<'a>,
    report: Report,
    runtime: Runtime,
    marks: Marks,
    kinds: Kinds,
}

impl<'a> Instrumenter<'a> {
    fn new(
        module: Module,
        sets: &'a Sets,
        options: &'a Options,
        callees: Callees<'a>,
        report: Report,
    ) -> Self {
        Instrumenter {
            module,
            sets,
            options,
            callees,
            report,
            runtime: Runtime::new(module),
            marks: Marks::new(module),
            kinds: Kinds::new(module),
        }
    }

    fn instrument(&mut self, function: Value, is_twin: bool) {
        crate::plugin::set_current(function.name());
        let mut chooser = Chooser::new(
            self.module,
            &self.kinds,
            &mut self.marks,
            &mut self.callees,
            &mut self.report,
            function,
        );
        let checks = instrument(
            &mut self.runtime,
            &mut chooser,
            self.options,
            self.sets,
            is_twin,
        );
        self.report.add("checks", checks);
        function.add_function_attribute(runtime::no_red_zone());
        // What the optimiser inferred about memory no longer holds.
        function.remove_function_attribute(attribute_kind("memory"));
    }
}

/// Function attributes of sanitizers whose runtime and ours want the same memory. `ame cc` refuses their
/// options before it comes to this; the plugin alone sees what they leave in the code.
const CLASHES: [(&str, &str); 7] = [
    ("sanitize_address", "address"),
    ("sanitize_hwaddress", "hwaddress"),
    ("sanitize_memory", "memory"),
    ("sanitize_thread", "thread"),
    ("sanitize_memtag", "memtag"),
    ("safestack", "safe-stack"),
    ("shadowcallstack", "shadow-call-stack"),
];

fn refuse_sanitizers(function: Value) -> Result<(), String> {
    let clash = CLASHES
        .iter()
        .find(|(attribute, _)| function.function_has(attribute_kind(attribute)));
    match clash {
        None => Ok(()),
        Some((_, name)) => Err(format!(
            "{}: -fsanitize={name} cannot be combined with transactions: its shadow memory, its allocator \
             or its second stack would take the place of the runtime's; drop it, or compile this file \
             without the plugin",
            function.name()
        )),
    }
}

fn body(function: Value, sets: &Sets) -> Body {
    if function.function_has(attribute_kind("naked"))
        || function.is_available_externally()
        || function.text_attribute(CLONE).is_some()
    {
        return Body::LeaveAlone;
    }
    let kind = attributes::rule(function, sets).map_or(FunctionKind::Normal, |r| r.kind);
    match kind {
        FunctionKind::Safe | FunctionKind::Pure => Body::Safe,
        _ if crate::callee::is_runtime(function.name()) => Body::Safe,
        _ => Body::Instrument,
    }
}

fn instrument(
    runtime: &mut Runtime,
    chooser: &mut Chooser,
    options: &Options,
    sets: &Sets,
    is_twin: bool,
) -> u64 {
    let function = chooser.function;
    if function.function_has(attribute_kind("presplitcoroutine")) {
        if let Some(at) = function.entry().and_then(|b| b.first()) {
            chooser
                .report
                .error(function, at, "coroutines are not supported");
        }
        return 0;
    }
    let separate = frame::separate(runtime, function, &mut Escapes::default());
    chooser.report.add("separate_locals", separate);
    let cfg = Cfg::new(function);
    chooser.run(&cfg);
    chooser.entry_kind(sets);
    let on = options.optimise;
    let facts = std::mem::take(&mut chooser.facts);
    let mut plan = std::mem::take(&mut chooser.plan);
    let loops = Loops::new(&cfg);
    let epochs = Epochs::new(&cfg, facts.kills);
    optimise::residues(chooser.module, &mut plan.barriers, &facts.fresh);
    if on.range && !loops.all.is_empty() {
        let ranged = stream::run(chooser.module, &cfg, &loops, &epochs, &mut plan);
        chooser.report.add("ranged", ranged);
    }
    if on.hoist && !loops.all.is_empty() {
        let moved = hoist::run(&cfg, &loops, &epochs, &mut plan);
        chooser.report.add("hoisted", moved);
    }
    for (i, reason) in optimise::run(&cfg, &epochs, &mut plan, &facts.fresh, on) {
        let b = &plan.barriers[i];
        let word = if b.mode == plan::Mode::Read {
            "read"
        } else {
            "write"
        };
        chooser.report.skip(function, b.place.at, word, reason);
    }
    mark_hot(&mut plan, &loops, function);
    if sets.function(function.name()).is_none_or(|rule| rule.polls) {
        let may_recurse = !sets.bounded_recursion();
        let calls: &[u32] = if may_recurse { &facts.calls } else { &[] };
        let polls = polls::add(&cfg, &loops, &mut plan, calls);
        chooser.report.add("polls", polls);
    }
    let form = if on.compact && sets.tells_hot() && !clones::is_hot(function, sets) {
        rewrite::Form::Compact
    } else if is_twin {
        rewrite::Form::Body
    } else {
        rewrite::Form::Mixed
    };
    let checks = rewrite::apply(runtime, function, &plan, on, form);
    if is_twin {
        answer(runtime, chooser.module, function);
    }
    checks
}

/// Bodies of hot functions find out without a call whether they run in a transaction (`ame_in_transaction`).
fn answer(runtime: &Runtime, module: Module, function: Value) {
    let Some(question) = module.function("ame_in_transaction") else {
        return;
    };
    let asks: Vec<Value> = (question.users())
        .filter(|&user| {
            is_call(user) && user.callee() == question && user.block().function() == function
        })
        .collect();
    for call in asks {
        runtime.builder.before(call);
        let inside = runtime.inside();
        call.replace_with(runtime.builder.int_cast(inside, call.ty(), false));
        call.erase();
    }
}

/// Functions with more barriers than this get no code for speed: it would be too much.
const MODERATE: usize = 100;

/// First touches happen mostly in loops: only there are they worth marking inline.
fn mark_hot(plan: &mut plan::Plan, loops: &Loops, function: Value) {
    let small = plan.barriers.len() <= MODERATE
        && !["optsize", "minsize", "optnone", "cold"]
            .iter()
            .any(|a| function.function_has(attribute_kind(a)));
    for b in &mut plan.barriers {
        b.hot = small && loops.innermost[b.place.block as usize] != crate::analysis::cfg::NONE;
    }
}

/// Whether an instruction is a call of any form.
pub fn is_call(instruction: Value) -> bool {
    matches!(
        instruction.opcode(),
        Some(Opcode::LLVMCall | Opcode::LLVMInvoke | Opcode::LLVMCallBr)
    )
}
