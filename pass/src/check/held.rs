//! State that a function holds across calls out to Python: it reads a global or a field, makes a call that may
//! run Python code or release the GIL, and goes on as if nothing had changed.
//!
//! Four ways to do so are found: the same place is written after the call (an update that others' updates get
//! lost in); a pointer that was read before the call is followed after it; an object is dropped that the place
//! still refers to, and the place is changed afterwards; a variable is set for a callback, and the call is made before the callback
//! comes. What is read again after the call is not held.

use super::api::{effect, is_python, Effect};
use super::places::{memory, plain_name, shown, Memory};
use super::{calls, place, target, Context, Place};
use crate::analysis::cfg::Cfg;
use crate::ffi::{Module, Opcode, Value};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

#[derive(Serialize)]
pub struct Held {
    /// `update`, `pointer`, `drop` or `callback`: see the module.
    way: &'static str,
    /// `variable`, `variable.field` or `Struct.field`.
    memory: String,
    read: Place,
    call: Call,
    /// Where it is written, or followed.
    then: Place,
}

#[derive(Clone, Serialize)]
struct Call {
    /// A function of Python's API, or of the program.
    name: String,
    /// What of the API a function of the program calls; `None` for one of another file, which may or may not.
    runs: Option<String>,
    #[serde(flatten)]
    place: Place,
}

/// Functions that may run Python code, and what of the API they call for that.
pub fn runs(module: Module) -> FxHashMap<Value, String> {
    let bodies: Vec<Value> = module
        .functions()
        .filter(|f| !f.is_declaration() && !is_python(f.name()))
        .collect();
    let mut known: FxHashMap<Value, String> = FxHashMap::default();
    loop {
        let mut changed = false;
        for &function in &bodies {
            if known.contains_key(&function) {
                continue;
            }
            let found = calls(function).find_map(|call| runs_by(module, call, &known));
            if let Some(name) = found {
                known.insert(function, name);
                changed = true;
            }
        }
        if !changed {
            return known;
        }
    }
}

/// What of the API a call runs, if it may run Python code for sure.
fn runs_by(module: Module, call: Value, known: &FxHashMap<Value, String>) -> Option<String> {
    let callee = target(call.callee());
    if !callee.is_function() {
        return is_slot(module, callee).then(|| "a slot of a type".to_owned());
    }
    let name = callee.name();
    if is_python(name) {
        return (effect(name) == Effect::Runs).then(|| name.to_owned());
    }
    known.get(&callee).cloned()
}

/// Whether a function pointer comes from a type object.
fn is_slot(module: Module, callee: Value) -> bool {
    if callee.opcode() != Some(Opcode::LLVMLoad) {
        return false;
    }
    let mut at = callee.operand(0);
    while at.opcode() == Some(Opcode::LLVMGetElementPtr) {
        let name = at.gep_source().struct_name().unwrap_or_default();
        let is_methods = ["Number", "Sequence", "Mapping"]
            .iter()
            .any(|kind| plain_name(name) == format!("Py{kind}Methods"));
        if plain_name(name) == "_typeobject" || is_methods {
            return module.gep_offset(at).is_some();
        }
        at = at.operand(0);
    }
    false
}

/// What matters here of an instruction.
enum Event {
    Read(Memory, Value),
    Write(Memory),
    Call(Call),
    /// A reference is dropped.
    Drop(Value, Call),
    /// Memory at a pointer is accessed as a struct of the program.
    Follow(Value),
}

/// How far a way through the function has come for one place.
#[derive(Clone)]
enum State {
    Unread,
    Read(Value),
    Called(Value, Call),
}

impl State {
    fn rank(&self) -> u8 {
        match self {
            State::Unread => 0,
            State::Read(_) => 1,
            State::Called(_, Call { runs: None, .. }) => 2,
            State::Called(..) => 3,
        }
    }

    /// After a call: one that runs code for sure replaces one that may.
    fn call(&mut self, call: &Call) {
        let better = match self {
            State::Unread => None,
            State::Read(read) => Some(*read),
            State::Called(read, known) if known.runs.is_none() && call.runs.is_some() => {
                Some(*read)
            }
            State::Called(..) => None,
        };
        if let Some(read) = better {
            *self = State::Called(read, call.clone());
        }
    }
}

pub fn find(context: &Context, function: Value, found: &mut Vec<Held>) {
    if context.init.contains(&function) {
        return;
    }
    let cfg = Cfg::new(function);
    let events: Vec<Vec<(Value, Event)>> = cfg
        .blocks
        .iter()
        .map(|b| b.instructions().filter_map(|i| event(context, i)).collect())
        .collect();
    let all = || events.iter().flatten();
    if !all().any(|(_, e)| matches!(e, Event::Call(_) | Event::Drop(..))) {
        return;
    }
    let mut reads: FxHashMap<Memory, Vec<Value>> = FxHashMap::default();
    let mut written: FxHashSet<Memory> = FxHashSet::default();
    for (at, event) in all() {
        match event {
            Event::Read(memory, _) => reads.entry(*memory).or_default().push(*at),
            Event::Write(memory) => {
                written.insert(*memory);
            }
            _ => {}
        }
    }
    let dying = is_dealloc(context.module, function);
    // By line, then as the function has them: a hash map's order is another on each machine.
    let order: FxHashMap<Value, usize> = all().enumerate().map(|(n, (at, _))| (*at, n)).collect();
    let mut ordered: Vec<(Memory, Vec<Value>)> = reads.into_iter().collect();
    ordered.sort_by_key(|(_, loads)| (place(function, loads[0]).line, order[&loads[0]]));
    for (memory, loads) in ordered {
        let Some(name) = shown(context, memory) else {
            continue;
        };
        let update = written
            .contains(&memory)
            .then(|| updates(&cfg, &events, memory, &loads, dying))
            .flatten();
        let report = update.or_else(|| {
            loads
                .iter()
                .find_map(|&load| followed(&cfg, &events, memory, load))
        });
        if let Some((way, read, call, then)) = report {
            found.push(Held {
                way,
                memory: name,
                read: place(function, read),
                call,
                then: place(function, then),
            });
        }
    }
}

/// Variables that only callbacks read, so that they stand for an argument: where they are set, and a call out is
/// made afterwards.
pub fn find_callbacks(context: &Context, found: &mut Vec<Held>) {
    for variable in context.module.globals() {
        if variable.is_thread_local()
            || variable.is_constant_global()
            || variable.declaration().is_none()
        {
            continue;
        }
        let accesses = || variable.users().filter(|user| user.is_instruction());
        let is_load = |user: &Value| user.opcode() == Some(Opcode::LLVMLoad);
        let is_store =
            |user: &Value| user.opcode() == Some(Opcode::LLVMStore) && user.operand(1) == variable;
        let Some(read) = accesses().find(is_load) else {
            continue;
        };
        let writers: FxHashSet<Value> = accesses()
            .filter(is_store)
            .map(|store| store.block().function())
            .filter(|f| !context.init.contains(f))
            .collect();
        let by_callbacks = accesses().all(|user| {
            is_store(&user) || (is_load(&user) && is_callback(user.block().function()))
        });
        if writers.is_empty() || !by_callbacks || writers.iter().any(|f| is_callback(*f)) {
            continue;
        }
        let set = callers(context, writers);
        let held = set
            .iter()
            .find_map(|f| set_before_call(context, *f, variable, &set));
        if let Some((write, call)) = held {
            found.push(Held {
                way: "callback",
                memory: variable.declaration().map(|d| d.name).unwrap_or_default(),
                read: write,
                call,
                then: place(read.block().function(), read),
            });
        }
    }
}

/// Whether others than callers in this file get to know the function.
pub fn is_callback(function: Value) -> bool {
    function.users().any(|user| {
        !(matches!(user.opcode(), Some(Opcode::LLVMCall | Opcode::LLVMInvoke))
            && user.callee() == function)
    })
}

/// These functions, and those that call them.
fn callers(context: &Context, mut these: FxHashSet<Value>) -> Vec<Value> {
    loop {
        let more: Vec<Value> = context
            .bodies()
            .filter(|f| !these.contains(f))
            .filter(|f| calls(*f).any(|call| these.contains(&target(call.callee()))))
            .collect();
        if more.is_empty() {
            let mut all: Vec<Value> = these.into_iter().collect();
            all.sort_by_key(|f| f.definition());
            return all;
        }
        these.extend(more);
    }
}

/// Where a function sets the variable, itself or by one of these, and what it calls out to then.
fn set_before_call(
    context: &Context,
    function: Value,
    variable: Value,
    setters: &[Value],
) -> Option<(Place, Call)> {
    let cfg = Cfg::new(function);
    let events: Vec<Vec<(Value, Event)>> = cfg
        .blocks
        .iter()
        .map(|b| {
            let sets = |at: Value| match at.opcode() {
                Some(Opcode::LLVMStore) => at.operand(1) == variable,
                Some(Opcode::LLVMCall) => setters.contains(&target(at.callee())),
                _ => false,
            };
            b.instructions()
                .filter_map(|at| match sets(at) {
                    true => Some((at, Event::Write(Memory::Global(variable, None)))),
                    false => event(context, at),
                })
                .collect()
        })
        .collect();
    let report = walk(&cfg, &events, |state, at, event| {
        match (event, &state) {
            (Event::Write(Memory::Global(which, None)), _) if *which == variable => {
                *state = State::Read(at)
            }
            (Event::Call(call), State::Read(write)) if call.runs.is_some() => {
                return Some(("callback", *write, call.clone(), at));
            }
            _ => {}
        }
        None
    })?;
    Some((place(function, report.1), report.2))
}

fn event(context: &Context, at: Value) -> Option<(Value, Event)> {
    let event = match at.opcode()? {
        Opcode::LLVMLoad => match memory(context, at.operand(0)) {
            Some(memory) => Event::Read(memory, at),
            None => Event::Follow(at.operand(0)),
        },
        Opcode::LLVMStore => match memory(context, at.operand(1)) {
            Some(memory) => Event::Write(memory),
            None => Event::Follow(at.operand(1)),
        },
        Opcode::LLVMCall | Opcode::LLVMInvoke => call_event(context, at)?,
        _ => return None,
    };
    Some((at, event))
}

fn call_event(context: &Context, at: Value) -> Option<Event> {
    let function = at.block().function();
    let callee = target(at.callee());
    let call = |name: &str, runs: Option<String>| Call {
        name: name.to_owned(),
        runs,
        place: place(function, at),
    };
    if !callee.is_function() {
        let runs = runs_by(context.module, at, &context.runs)?;
        return Some(Event::Call(call(&runs, Some(runs.clone()))));
    }
    let name = callee.name();
    if is_python(name) {
        return match effect(name) {
            Effect::Keeps => None,
            Effect::Drops => (at.arguments() > 0)
                .then(|| Event::Drop(at.operand(at_object(at)), call(name, Some(name.to_owned())))),
            Effect::Runs => Some(Event::Call(call(name, Some(name.to_owned())))),
        };
    }
    match context.runs.get(&callee) {
        Some(runs) => Some(Event::Call(call(name, Some(runs.clone())))),
        None if callee.is_declaration() && !name.starts_with("llvm.") => {
            Some(Event::Call(call(name, None)))
        }
        None => None,
    }
}

/// The object is the last argument: debug builds pass a place first.
fn at_object(call: Value) -> u32 {
    call.arguments() - 1
}

type Report = (&'static str, Value, Call, Value);

/// A place that is written after a call, where the read before it was the last one.
fn updates(
    cfg: &Cfg,
    events: &[Vec<(Value, Event)>],
    memory: Memory,
    loads: &[Value],
    dying: bool,
) -> Option<Report> {
    walk(cfg, events, |state, at, event| {
        match event {
            Event::Read(read, load) if *read == memory => *state = State::Read(*load),
            Event::Write(write) if *write == memory => {
                let before = std::mem::replace(state, State::Unread);
                if let State::Called(read, call) = before {
                    let dropped = super::api::effect(&call.name) == Effect::Drops;
                    let way = if dropped { "drop" } else { "update" };
                    return Some((way, read, call, at));
                }
            }
            Event::Call(call) => state.call(call),
            Event::Drop(object, call) if !dying && loads.contains(object) => state.call(call),
            _ => {}
        }
        None
    })
}

/// A pointer that is followed after a call, and was not read again.
fn followed(
    cfg: &Cfg,
    events: &[Vec<(Value, Event)>],
    memory: Memory,
    load: Value,
) -> Option<Report> {
    if !load.ty().is_pointer() || is_owned(load) {
        return None;
    }
    walk(cfg, events, |state, at, event| {
        let base = match event {
            Event::Read(_, _) if at == load => {
                *state = State::Read(load);
                return None;
            }
            // Read again: the code looks whether it is still so.
            Event::Read(read, _) if *read == memory => {
                *state = State::Unread;
                return None;
            }
            Event::Read(Memory::Field { base, .. }, _)
            | Event::Write(Memory::Field { base, .. }) => *base,
            Event::Follow(pointer) => *pointer,
            Event::Call(call) => {
                state.call(call);
                return None;
            }
            _ => return None,
        };
        match state {
            State::Called(read, call) if comes_from(base, load) => {
                Some(("pointer", *read, call.clone(), at))
            }
            _ => None,
        }
    })
}

/// Whether a pointer may be computed from what was loaded.
fn comes_from(pointer: Value, load: Value) -> bool {
    let mut seen = vec![pointer];
    let mut next = 0;
    while next < seen.len() {
        let value = seen[next];
        next += 1;
        let from: Vec<Value> = match value.opcode() {
            _ if value == load => return true,
            Some(Opcode::LLVMGetElementPtr) => vec![value.operand(0)],
            Some(Opcode::LLVMSelect) => vec![value.operand(1), value.operand(2)],
            Some(Opcode::LLVMPHI) => value.incoming().map(|(value, _)| value).collect(),
            _ => continue,
        };
        for value in from {
            if !seen.contains(&value) {
                seen.push(value);
            }
        }
    }
    false
}

/// Whether the function takes a reference to what it has read.
fn is_owned(load: Value) -> bool {
    const TAKES: [&str; 7] = [
        "Py_INCREF",
        "Py_XINCREF",
        "Py_NewRef",
        "Py_XNewRef",
        "Py_IncRef",
        "_Py_NewRef",
        "_Py_XNewRef",
    ];
    load.users().any(|user| match user.opcode() {
        Some(Opcode::LLVMCall) => TAKES.contains(&user.callee().name()),
        // Its head, by which it is an object.
        Some(Opcode::LLVMGetElementPtr) if user.users().count() == 1 => is_owned(user),
        _ => false,
    })
}

/// Follows all ways through a function with a state each, until a step reports or nothing changes.
fn walk(
    cfg: &Cfg,
    events: &[Vec<(Value, Event)>],
    mut step: impl FnMut(&mut State, Value, &Event) -> Option<Report>,
) -> Option<Report> {
    let mut at_start = vec![State::Unread; cfg.blocks.len()];
    let mut work: Vec<u32> = cfg.order.iter().rev().copied().collect();
    let mut maybe = None;
    while let Some(block) = work.pop() {
        let mut state = at_start[block as usize].clone();
        for (at, event) in &events[block as usize] {
            match step(&mut state, *at, event) {
                // A call into another file may turn out to run nothing: look for one that does.
                Some(report) if report.2.runs.is_none() => maybe = maybe.or(Some(report)),
                Some(report) => return Some(report),
                None => {}
            }
        }
        for &next in &cfg.successors[block as usize] {
            if state.rank() > at_start[next as usize].rank() {
                at_start[next as usize] = state.clone();
                work.push(next);
            }
        }
    }
    maybe
}

/// Whether a type names the function as what frees its objects: nobody else has them then.
fn is_dealloc(module: Module, function: Value) -> bool {
    const TP_DEALLOC: u32 = 4;
    const SLOT_DEALLOC: u64 = 52;
    module.globals().any(|global| {
        let Some(content) = global.initializer() else {
            return false;
        };
        let ty = global.value_type();
        let is = |ty: crate::ffi::Type, name: &str| {
            ty.struct_name().is_some_and(|n| plain_name(n) == name)
        };
        if is(ty, "_typeobject") {
            return content.operands() > TP_DEALLOC && content.operand(TP_DEALLOC) == function;
        }
        let slots = ty.element().is_some_and(|e| is(e, "PyType_Slot"));
        slots
            && (0..content.operands())
                .map(|i| content.operand(i))
                .any(|slot| {
                    slot.operands() == 2
                        && slot.operand(0).as_u64() == Some(SLOT_DEALLOC)
                        && slot.operand(1) == function
                })
    })
}
