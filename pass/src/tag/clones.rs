//! Plain clones of hot functions, made before anything else happens to the module: the optimiser sees in
//! them what it would see without the plugin. The instrument phase puts the dispatchers in place
//! ([`crate::instrument`]).
//!
//! Static functions that a clone calls are cloned as well, so that it calls and inlines what the source says.

use crate::attributes::{self, CLONE, TWIN};
use crate::callee::Callees;
use crate::ffi::{attribute_kind, Module, Value};
use crate::instrument::{calls, changes_mode, is_call, is_hot};
use ame_annotations::{FunctionKind, Sets};
use rustc_hash::{FxHashMap, FxHashSet};

/// Clones the hot functions of a module, and what they need.
pub fn make(module: Module, sets: &Sets) {
    let bodies: Vec<Value> = module.functions().filter(|f| !f.is_declaration()).collect();
    if !bodies.iter().any(|&f| is_hot(f, sets)) {
        return;
    }
    let unsteady = unsteady(sets, &bodies);
    let fits = |f: Value| !unsteady.contains(&f) && is_eligible(f, sets) && !is_replaced(f, sets);
    let mut work: Vec<Value> = bodies
        .into_iter()
        .filter(|&f| is_hot(f, sets) && fits(f))
        .collect();
    let mut clones: FxHashMap<Value, Value> = FxHashMap::default();
    // In the order in which they were made: what the compiler writes must not depend on addresses.
    let mut made = Vec::new();
    while let Some(function) = work.pop() {
        if clones.contains_key(&function) {
            continue;
        }
        let Some(clone) = function.clone_function() else {
            continue;
        };
        let name = function.name().to_owned();
        clone.set_name(&format!("{name}.plain"));
        clone.set_text_attribute(CLONE, &name);
        clone.remove_text_attribute(attributes::KEY);
        clone.add_function_attribute(attribute_kind("hot"));
        clones.insert(function, clone);
        made.push((function, clone));
        let helpers = calls(clone)
            .map(Value::callee)
            .filter(|&f| f.is_function() && !f.is_declaration() && f.is_internal() && fits(f));
        work.extend(helpers);
    }
    for &(function, clone) in &made {
        publish(module, sets, &clones, function, clone);
    }
    for &(_, clone) in &made {
        let direct: Vec<Value> = calls(clone).collect();
        for call in direct {
            if let Some(&other) = clones.get(&call.callee()) {
                call.set_callee(other);
            }
        }
    }
}

/// Tells code which asks (`ame_is_clone`) whether it is in a plain clone.
pub fn answer(module: Module) {
    let Some(question) = module.function("ame_is_clone") else {
        return;
    };
    let asks: Vec<Value> = question
        .users()
        .filter(|user| is_call(*user) && user.callee() == question)
        .collect();
    for call in asks {
        let caller = call.block().function();
        let answer = u64::from(caller.text_attribute(CLONE).is_some());
        call.replace_with(call.ty().int(answer));
        call.erase();
    }
}

/// Sees to it that a clone that dispatchers or other files may call is still there, and takes the same
/// arguments, when the optimiser is done.
fn publish(
    module: Module,
    sets: &Sets,
    clones: &FxHashMap<Value, Value>,
    function: Value,
    clone: Value,
) {
    if !is_hot(function, sets) {
        clone.set_internal();
    } else if !function.is_internal() {
        clone.set_hidden(function.may_have_copies());
        clone.set_text_attribute(TWIN, "");
    } else {
        clone.set_internal();
        // Where only clones and hot functions call it, those know which of the two they want.
        let knows = |user: Value| {
            let caller = || user.block().function();
            let is_twin = |f: Value| is_hot(f, sets) && clones.contains_key(&f);
            is_call(user)
                && user.callee() == function
                && (caller().text_attribute(CLONE).is_some() || is_twin(caller()))
        };
        if !function.users().all(knows) {
            module.keep(function);
            module.keep(clone);
            clone.set_text_attribute(TWIN, "");
        }
    }
}

/// Whether clones call something else in its place, too.
fn is_replaced(function: Value, sets: &Sets) -> bool {
    attributes::rule(function, sets).is_some_and(|r| r.replace.is_some() && r.replace_in_clones)
}

fn is_eligible(function: Value, sets: &Sets) -> bool {
    let rule = attributes::rule(function, sets);
    !function.value_type().is_variadic()
        && !function.function_has(attribute_kind("optnone"))
        && !function.function_has(attribute_kind("naked"))
        && !function.is_available_externally()
        && rule.is_none_or(|r| r.kind == FunctionKind::Normal)
}

/// Functions that begin transactions, or come back from elsewhere, change modes by themselves; so do those
/// into which they may be inlined.
fn unsteady(sets: &Sets, bodies: &[Value]) -> FxHashSet<Value> {
    let mut callees = Callees::new(sets);
    let mut callers: FxHashMap<Value, Vec<Value>> = FxHashMap::default();
    let mut work = Vec::new();
    for &function in bodies {
        for call in calls(function) {
            let Some(callee) = callees.of(call) else {
                continue;
            };
            if changes_mode(&callee, call, sets) {
                work.push(function);
            }
            let target = call.callee();
            if target.is_function() && !target.is_declaration() {
                callers.entry(target).or_default().push(function);
            }
        }
    }
    let mut unsteady = FxHashSet::default();
    while let Some(function) = work.pop() {
        if unsteady.insert(function) {
            work.extend(callers.get(&function).into_iter().flatten());
        }
    }
    unsteady
}
