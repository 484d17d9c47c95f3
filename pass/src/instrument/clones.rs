//! Plain clones of hot functions: what runs outside transactions has no barriers at all. The tag phase makes
//! them, so they are optimised as if there were no plugin ([`crate::tag`]).
//!
//! A hot function becomes three. The *dispatcher* has its name, looks at the thread's mode, and
//! jumps. The instrumented *body* runs in transactions and calls other instrumented bodies directly;
//! the *plain* clone runs outside and calls other plain clones directly. In programs both also call
//! those of other files: `f.transaction` and `f.plain` are hidden symbols there, and each file that
//! calls them has a weak definition of its own, which jumps to `f`, in case that `f` has no clone.
//!
//! A plain clone may only go on when no call that it makes leaves the thread in a transaction. Where
//! no annotation set promises that (`balanced`), the clone looks after each call that it does not
//! know, and stops the program with a message if need be.

use super::is_call;
use super::runtime::{Runtime, COUNT_MARKER};
use crate::attributes::{self, CLONE, TWIN};
use crate::callee::{is_runtime, Callee, Callees};
use crate::ffi::{attribute_kind, Block, Module, Opcode, Value};
use ame_abi::sym;
use ame_annotations::Sets;
use rustc_hash::FxHashSet;
use std::ffi::CStr;

const BODY: &CStr = c".transaction";
const PLAIN: &CStr = c".plain";
/// Where bodies are. Not among `.text`, of which a linker puts all parts of a file together: a thread that runs no
/// transactions should not have them in memory, as the kernel reads 64 KiB around what is executed.
const BODIES: &str = ".ame_bodies";
/// Where a program's dispatchers are, and nothing else: of an address between the section's beginning and end bodies
/// know that they may call it. A name of C, which is what linkers define such symbols for.
pub const DISPATCHERS: &str = "ame_dispatchers";

/// A hot function and its clone.
pub struct Twin {
    /// Instrumented meanwhile.
    body: Value,
    plain: Value,
}

impl Twin {
    pub fn is_of(&self, function: Value) -> bool {
        self.body == function
    }
}

/// The plain clones of a module.
pub struct Clones {
    /// Those that need a dispatcher.
    pub twins: Vec<Twin>,
    /// All, with their calls that may return in a transaction.
    all: Vec<(Value, Vec<Value>)>,
}

/// Whether the function was declared hot.
pub fn is_hot(function: Value, sets: &Sets) -> bool {
    sets.is_hot(function.name())
        || function
            .text_attribute(attributes::KEY)
            .and_then(|text| attributes::parse_function(text).ok())
            .is_some_and(|rule| rule.hot)
}

/// Finds the clones that the tag phase made.
pub fn find(module: Module, sets: &Sets, callees: &mut Callees) -> Result<Clones, String> {
    let mut clones = Clones {
        twins: Vec::new(),
        all: Vec::new(),
    };
    for plain in module.functions().filter(|f| !f.is_declaration()) {
        let Some(name) = plain.text_attribute(CLONE) else {
            continue;
        };
        let mut unsure = Vec::new();
        for call in calls(plain) {
            let Some(callee) = callees.of(call) else {
                continue;
            };
            if changes_mode(&callee, call, sets) {
                return Err(format!(
                    "{name}: this hot function came to begin a transaction, or to return twice, by inlining: \
                     take it out of `hot`"
                ));
            }
            if may_change_mode(&callee, sets) {
                unsure.push(call);
            }
        }
        if let Some(body) = module.function(name).filter(|&body| are_twins(body, plain)) {
            clones.twins.push(Twin { body, plain });
        }
        clones.all.push((plain, unsure));
    }
    Ok(clones)
}

/// Whether callers may choose between the two. The optimiser may have made further copies of a clone.
fn are_twins(body: Value, plain: Value) -> bool {
    plain.text_attribute(TWIN).is_some()
        && !body.is_declaration()
        && plain.name().strip_suffix(".plain") == Some(body.name())
        && body.value_type() == plain.value_type()
}

/// Whether a call may return in another mode than it was made in: a clone looks after it.
fn may_change_mode(callee: &Callee, sets: &Sets) -> bool {
    callee.kills && !sets.balanced()
}

/// Whether no clone can go on after the call: it begins a transaction, comes back from elsewhere, or is
/// followed by no instruction that could look.
pub fn changes_mode(callee: &Callee, call: Value, sets: &Sets) -> bool {
    let unclear = may_change_mode(callee, sets) && call.opcode() != Some(Opcode::LLVMCall);
    callee.begins || callee.returns_twice || unclear
}

/// The calls that a function makes.
pub fn calls(function: Value) -> impl Iterator<Item = Value> {
    function
        .blocks()
        .flat_map(|b| b.instructions())
        .filter(|i| is_call(*i))
}

/// Completes the clones and puts the dispatchers in place.
pub fn finish(runtime: &mut Runtime, sets: &Sets, clones: Clones) {
    let Clones { twins, all } = clones;
    for &(plain, _) in &all {
        expand_markers(runtime, plain);
    }
    let mut placed = Vec::with_capacity(twins.len());
    for twin in &twins {
        if is_interpreter(twin.plain) {
            place(runtime, twin.plain, 48);
            place(runtime, twin.body, 0);
        }
        let dispatcher = twin.body.give_place(BODY);
        if runtime.module.is_of_program() {
            twin.body.set_section(BODIES);
            dispatcher.set_section(DISPATCHERS);
        }
        dispatch(runtime, dispatcher, twin);
        placed.push(dispatcher);
    }
    for (twin, &dispatcher) in twins.iter().zip(&placed) {
        if !dispatcher.is_interposable() {
            shorten(&twins, dispatcher, twin);
        }
    }
    if runtime.module.is_of_program() && !twins.is_empty() {
        // The linker knows where a section begins and ends that is not empty in all files.
        let section = format!(".pushsection {DISPATCHERS},\"ax\",@progbits\n.popsection\n");
        runtime.module.append_assembly(&section);
        for (twin, &dispatcher) in twins.iter().zip(&placed) {
            if !dispatcher.is_internal() {
                twin.body.set_hidden(dispatcher.may_have_copies());
            }
        }
        let bodies: FxHashSet<Value> = twins.iter().map(|twin| twin.body).collect();
        call_elsewhere(runtime, sets, BODY, |caller| bodies.contains(&caller));
        call_elsewhere(runtime, sets, PLAIN, is_clone);
    }
    for (plain, unsure) in &all {
        // Another clone looks itself.
        for &call in unsure.iter().filter(|call| !is_clone(call.callee())) {
            check_mode(runtime, *plain, call);
        }
    }
    for dispatcher in placed {
        if dispatcher.is_internal() && !dispatcher.has_uses() {
            dispatcher.delete_function();
        } else {
            runtime.set_prefix(dispatcher);
        }
    }
}

/// Whether it is an interpreter's loop, with a jump to a computed label for each instruction.
fn is_interpreter(function: Value) -> bool {
    let jumps = |b: Block| b.terminator().and_then(Value::opcode) == Some(Opcode::LLVMIndirectBr);
    function.blocks().any(jumps)
}

/// Fixes where in a line of the processor's cache a function begins. An interpreter's loop has hundreds of small
/// blocks, and jumps to each from everywhere, most of all to the one that goes on to the next instruction: that they
/// all move by 16 bytes, because some other function has grown, changes the time of Python programs by up to 10 %.
/// Which of the four places is best was measured for CPython 3.13's loop, on AMD EPYC.
fn place(runtime: &Runtime, function: Value, offset: usize) {
    const LINE: u32 = 64;
    function.set_alignment(LINE);
    if offset > 0 {
        // What stands in front of a function counts as its beginning.
        let unused = vec![runtime.i64.int(0); offset / size_of::<u64>()];
        function.set_prefix_data(runtime.module.const_array(runtime.i64, &unused));
    }
}

fn is_clone(function: Value) -> bool {
    function.is_function() && function.text_attribute(CLONE).is_some()
}

/// Lets bodies call bodies, and plain clones those, that other files of the program may have.
fn call_elsewhere(
    runtime: &mut Runtime,
    sets: &Sets,
    suffix: &CStr,
    is_caller: impl Fn(Value) -> bool,
) {
    let module = runtime.module;
    let elsewhere: Vec<Value> = module
        .functions()
        .filter(|f| f.is_declaration() && sets.is_hot(f.name()))
        .filter(|f| !f.name().starts_with("llvm.") && !is_runtime(f.name()))
        .filter(|f| !f.value_type().is_variadic())
        .collect();
    for function in elsewhere {
        let direct: Vec<Value> = function
            .users()
            .filter(|u| u.is_instruction() && is_call(*u) && u.callee() == function)
            .filter(|u| is_caller(u.block().function()))
            .collect();
        if direct.is_empty() {
            continue;
        }
        let name = format!("{}{}", function.name(), suffix.to_string_lossy());
        let other = module.add_function(&name, function.value_type());
        other.copy_attributes(function);
        other.remove_text_attribute(attributes::KEY);
        other.set_hidden(true);
        runtime.builder.forget_location();
        runtime.builder.at_end(module.append_block(other, "entry"));
        runtime.builder.tail_call(function);
        for call in direct {
            call.set_callee(other);
        }
    }
}

/// Changes of counts, marked so far, become what they were in code that knows no transactions.
pub fn expand_markers(runtime: &Runtime, plain: Value) {
    let markers: Vec<Value> = calls(plain)
        .filter(|c| c.callee().is_function() && c.callee().name().starts_with(COUNT_MARKER))
        .collect();
    for marker in markers {
        runtime.expand_count_plain(marker);
    }
}

/// After `call`, the thread must still be outside of transactions.
fn check_mode(runtime: &mut Runtime, plain: Value, call: Value) {
    let Some(next) = call.next().filter(|_| !call.is_must_tail()) else {
        return;
    };
    call.forbid_tail();
    runtime.builder.before(next);
    let inside = runtime.inside();
    let (_, rest) = runtime.cold_before(next, |_| inside);
    let name = format!("{}\0", plain.text_attribute(CLONE).unwrap_or_default());
    let name = runtime.module.const_bytes(name.as_bytes());
    let name = runtime.module.add_constant(name);
    runtime.call(sym::UNBALANCED, &[name]);
    runtime.builder.branch(rest);
}

fn dispatch(runtime: &mut Runtime, dispatcher: Value, twin: &Twin) {
    let module: Module = runtime.module;
    dispatcher.remove_function_attribute(attribute_kind("memory"));
    let entry = module.append_block(dispatcher, "entry");
    let inside = module.append_block(dispatcher, "transaction");
    let outside = module.append_block(dispatcher, "plain");
    runtime.builder.forget_location();
    runtime.builder.at_end(entry);
    let condition = runtime.inside();
    let branch = runtime.builder.branch_if(condition, inside, outside);
    runtime.unlikely(branch);
    runtime.builder.at_end(inside);
    runtime.builder.tail_call(twin.body);
    runtime.builder.at_end(outside);
    runtime.builder.tail_call(twin.plain);
}

/// Calls among the bodies, and among the clones, need no dispatcher.
fn shorten(twins: &[Twin], dispatcher: Value, twin: &Twin) {
    let direct: Vec<Value> = dispatcher
        .users()
        .filter(|u| u.is_instruction() && is_call(*u) && u.callee() == dispatcher)
        .collect();
    for call in direct {
        let caller = call.block().function();
        if is_clone(caller) {
            call.set_callee(twin.plain);
        } else if twins.iter().any(|t| t.body == caller) {
            call.set_callee(twin.body);
        }
    }
}
