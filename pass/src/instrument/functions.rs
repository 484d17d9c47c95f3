//! Rules that concern functions as a whole.

use super::is_call;
use crate::attributes::{self, CLONE};
use crate::callee::{Callees, Treatment};
use crate::ffi::{Module, Value};
use ame_annotations::Sets;
use rustc_hash::{FxHashMap, FxHashSet};

/// Puts the replacements of external functions in their place. This waits until now because the
/// optimiser knows the C library's names, not ours.
pub fn replace_external(module: Module, sets: &Sets) {
    let external: Vec<Value> = module.functions().filter(|f| f.is_declaration()).collect();
    for function in external {
        replace(module, function, sets);
    }
}

/// Replaces one function everywhere, its address included unless the rule says otherwise.
pub fn replace(module: Module, function: Value, sets: &Sets) {
    if function.name().starts_with("llvm.") {
        return;
    }
    let Some(rule) = attributes::rule(function, sets) else {
        return;
    };
    let Some(symbol) = &rule.replace else { return };
    if symbol == function.name() || !function.has_uses() {
        return;
    }
    let other = module
        .function(symbol)
        .unwrap_or_else(|| module.add_function(symbol, function.value_type()));
    if other == function {
        return;
    }
    if other.is_declaration() && other.value_type() == function.value_type() {
        other.copy_attributes(function);
        other.remove_text_attribute(attributes::KEY);
    }
    if !rule.replace_pointers {
        let calls: Vec<Value> = (function.users())
            .filter(|user| user.is_instruction() && is_call(*user) && user.callee() == function)
            .filter(|call| {
                let caller = call.block().function();
                let is_clone = caller.text_attribute(CLONE).is_some();
                caller != other && (rule.replace_in_clones || !is_clone)
            })
            .collect();
        return calls.into_iter().for_each(|call| call.set_callee(other));
    }
    // The replacement itself may call what it replaces.
    let mut own = operands(other, function);
    if !rule.replace_in_clones {
        let clones = module
            .functions()
            .filter(|f| f.text_attribute(CLONE).is_some());
        own.extend(clones.flat_map(|clone| operands(clone, function)));
    }
    function.replace_with(other);
    for (instruction, operand) in own {
        instruction.set_operand(operand, function);
    }
}

/// Where `function` uses `value`: instruction and operand.
fn operands(function: Value, value: Value) -> Vec<(Value, u32)> {
    function
        .blocks()
        .flat_map(|b| b.instructions())
        .flat_map(|i| (0..i.operands()).map(move |n| (i, n)))
        .filter(|&(i, n)| i.operand(n) == value)
        .collect()
}

/// Functions with bodies from which no call can be reached that may end or begin a transaction.
pub fn quiet(module: Module, callees: &mut Callees) -> FxHashSet<Value> {
    let mut callers: FxHashMap<Value, Vec<Value>> = FxHashMap::default();
    let mut loud: Vec<Value> = Vec::new();
    let mut bodies = Vec::new();
    for function in module.functions().filter(|f| !f.is_declaration()) {
        bodies.push(function);
        let mut is_loud = function.is_interposable();
        for call in function
            .blocks()
            .flat_map(|b| b.instructions())
            .filter(|i| is_call(*i))
        {
            let Some(callee) = callees.of(call) else {
                continue;
            };
            let target = call.callee();
            if target.is_function()
                && !target.is_declaration()
                && callee.treatment == Treatment::Free
            {
                callers.entry(target).or_default().push(function);
            } else if callee.kills {
                is_loud = true;
            }
        }
        if is_loud {
            loud.push(function);
        }
    }
    // A `safe` body handles transactions itself.
    for function in &bodies {
        if crate::callee::is_runtime(function.name())
            || function
                .text_attribute(attributes::KEY)
                .is_some_and(|t| t.contains("safe"))
        {
            loud.push(*function);
        }
    }
    let mut quiet: FxHashSet<Value> = bodies.into_iter().collect();
    while let Some(function) = loud.pop() {
        if quiet.remove(&function) {
            loud.extend(callers.get(&function).into_iter().flatten());
        }
    }
    quiet
}
