//! Rules of functions and variables, before inlining.

use super::points::Resolver;
use crate::attributes::{self, KEY, PREFIX};
use crate::ffi::{Module, Opcode, Value};
use crate::instrument::replace_function;
use ame_annotations::{FieldKind, Sets};
use rustc_hash::FxHashMap;

/// An attribute of a function or a variable in the source.
pub struct Annotation {
    pub what: Value,
    /// After `ame:`.
    pub text: String,
    entry: Value,
}

impl Annotation {
    /// A message about it, with its place.
    pub fn located(&self, problem: &str) -> String {
        let file = self.entry.operand(2).initializer();
        let file = file.and_then(|t| t.constant_string()).unwrap_or_default();
        let line = self.entry.operand(3).as_u64().unwrap_or(0);
        format!("{file}:{line}: {}: {problem}", self.what.name())
    }
}

/// Ours of `llvm.global.annotations`.
pub fn annotations(module: Module) -> Vec<Annotation> {
    let list = module
        .global("llvm.global.annotations")
        .and_then(|g| g.initializer());
    let entries = list.map_or(0, |list| list.operands());
    (0..entries)
        .filter_map(|i| {
            let entry = list?.operand(i);
            if entry.operands() < 4 {
                return None;
            }
            let text = entry.operand(1).initializer()?.constant_string()?;
            Some(Annotation {
                what: entry.operand(0),
                text: text.strip_prefix(PREFIX)?.to_owned(),
                entry,
            })
        })
        .collect()
}

/// Takes over attributes of functions and variables.
pub fn read_annotations(module: Module, resolver: &mut Resolver) -> Result<(), String> {
    for annotation in annotations(module) {
        let (what, text) = (annotation.what, annotation.text.as_str());
        let located = |problem: String| annotation.located(&problem);
        if what.is_function() {
            attributes::parse_function(text).map_err(located)?;
            let all = match what.text_attribute(KEY) {
                Some(earlier) => format!("{earlier};{text}"),
                None => text.to_owned(),
            };
            what.set_text_attribute(KEY, &all);
        } else if what.is_global_variable() {
            let kind = attributes::field_kind(text).map_err(located)?;
            resolver.variables.insert(what, kind);
        }
    }
    Ok(())
}

/// Replaces functions whose body is in this module, before the body could be inlined.
pub fn replace_defined(module: Module, sets: &Sets) {
    let bodies: Vec<Value> = module.functions().filter(|f| !f.is_declaration()).collect();
    for function in bodies {
        replace_function(module, function, sets);
    }
}

/// A rule about all accesses of a function holds for the static functions that it calls, too: they
/// are copied for it.
pub fn copy_accessors(module: Module, sets: &Sets) {
    let mut copies: FxHashMap<(Value, FieldKind), Value> = FxHashMap::default();
    let mut work: Vec<(Value, FieldKind)> = module
        .functions()
        .filter(|f| !f.is_declaration())
        .filter_map(|f| Some((f, attributes::rule(f, sets)?.accesses?)))
        .collect();
    while let Some((function, kind)) = work.pop() {
        let calls: Vec<Value> = function
            .blocks()
            .flat_map(|b| b.instructions())
            .filter(|i| i.opcode() == Some(Opcode::LLVMCall))
            .collect();
        for call in calls {
            let callee = call.callee();
            let own_rule = || attributes::rule(callee, sets).is_some_and(|r| r.accesses.is_some());
            if !callee.is_function()
                || callee.is_declaration()
                || !callee.is_internal()
                || own_rule()
            {
                continue;
            }
            let copy = match copies.get(&(callee, kind)) {
                Some(&copy) => copy,
                None => {
                    // One whose labels are known elsewhere keeps its ordinary accesses.
                    let Some(copy) = callee.clone_function() else {
                        continue;
                    };
                    let word = format!("accesses={}", kind.as_str());
                    let text = match callee.text_attribute(KEY) {
                        Some(earlier) => format!("{earlier};{word}"),
                        None => word,
                    };
                    copy.set_text_attribute(KEY, &text);
                    work.push((copy, kind));
                    copies.insert((callee, kind), copy);
                    copy
                }
            };
            call.set_callee(copy);
        }
    }
}
