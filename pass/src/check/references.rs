//! References that belong to a container, which another thread may take out of it; and direct looks into the
//! memory of Python's containers.

use super::api::{borrows, makes, CONTAINERS};
use super::{calls, place, target, Context, Place};
use crate::ffi::{Opcode, Value};
use serde::Serialize;

#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// `list`, `dict`, ...
    container: &'static str,
    /// `function`: the API gives a borrowed reference. `element`: an element is read from the container's
    /// memory. `store`: one is written there. `pointer`: the code keeps a pointer into that memory. `field`: it
    /// reads something else of the container's struct.
    way: &'static str,
    /// The API's function.
    #[serde(skip_serializing_if = "Option::is_none")]
    function_name: Option<String>,
    /// The line in the source.
    text: String,
    #[serde(flatten)]
    place: Place,
}

pub fn find(context: &Context, function: Value, found: &mut Vec<Reference>) {
    let start = found.len();
    for call in calls(function) {
        let callee = target(call.callee());
        if !callee.is_function() {
            continue;
        }
        let Some(borrowed) = borrows(callee.name()) else {
            continue;
        };
        let fresh = borrowed
            .argument
            .is_some_and(|index| index < call.arguments() && is_fresh(call.operand(index)));
        let steps = callee.name().ends_with("_Next") || callee.name().ends_with("_NextEntry");
        if !fresh && (steps || call.has_uses()) {
            let name = callee.name().to_owned();
            found.push(reference(
                context,
                function,
                call,
                borrowed.container,
                "function",
                Some(name),
            ));
        }
    }
    for at in function.blocks().flat_map(|b| b.instructions()) {
        if at.opcode() != Some(Opcode::LLVMGetElementPtr) {
            continue;
        }
        let name = at.gep_source().struct_name().unwrap_or_default();
        let known = CONTAINERS
            .iter()
            .find(|(known, _)| same_struct(known, name));
        let Some((_, container)) = known else {
            continue;
        };
        let index = (at.operands() > 2)
            .then(|| at.operand(2).as_u64())
            .flatten();
        if index == Some(0) || is_fresh(at.operand(0)) {
            continue; // the object's head
        }
        for way in ways(at, *container == "list" && index == Some(1)) {
            found.push(reference(context, function, at, container, way, None));
        }
    }
    found[start..].sort();
    let mut rest = found.split_off(start);
    rest.dedup();
    found.append(&mut rest);
}

/// LLVM appends numbers to names that it has seen before.
fn same_struct(known: &str, name: &str) -> bool {
    name.strip_prefix(known)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether this function has made the container, so that nobody else knows it yet.
fn is_fresh(container: Value) -> bool {
    match container.opcode() {
        Some(Opcode::LLVMCall) => {
            let callee = target(container.callee());
            callee.is_function() && makes(callee.name())
        }
        Some(Opcode::LLVMPHI) => container.incoming().all(|(value, _)| {
            value.is_null() || (value.opcode() == Some(Opcode::LLVMCall) && is_fresh(value))
        }),
        _ => false,
    }
}

/// What is done with the field at a pointer; `items`: it holds the list's elements.
fn ways(field: Value, items: bool) -> Vec<&'static str> {
    let mut ways = Vec::new();
    for user in field.users() {
        match user.opcode() {
            Some(Opcode::LLVMLoad) if items => ways.extend(of_items(user)),
            Some(Opcode::LLVMStore) if user.operand(1) == field => ways.push("store"),
            _ => ways.push("field"),
        }
    }
    ways.sort();
    ways.dedup();
    ways
}

/// What is done with a pointer to a list's elements.
fn of_items(items: Value) -> Vec<&'static str> {
    let way = |element: Value, user: Value| match user.opcode() {
        Some(Opcode::LLVMLoad) => "element",
        Some(Opcode::LLVMStore) if user.operand(1) == element => "store",
        _ => "pointer",
    };
    let is_macro = |user: Value| {
        user.opcode() == Some(Opcode::LLVMGetElementPtr) && user.location() == items.location()
    };
    items
        .users()
        .flat_map(|user| {
            if is_macro(user) {
                user.users().map(|next| way(user, next)).collect()
            } else {
                vec![way(items, user)]
            }
        })
        .collect()
}

fn reference(
    context: &Context,
    function: Value,
    at: Value,
    container: &'static str,
    way: &'static str,
    function_name: Option<String>,
) -> Reference {
    let place = place(function, at);
    Reference {
        container,
        way,
        function_name,
        text: source_line(context, &place),
        place,
    }
}

/// The line as it is in the file, if that can be read: it names the macro.
fn source_line(context: &Context, place: &Place) -> String {
    let path = std::path::Path::new(&context.module.folder().unwrap_or_default()).join(&place.file);
    let Ok(content) = std::fs::read(path) else {
        return String::new();
    };
    let content = String::from_utf8_lossy(&content);
    let line = content.lines().nth((place.line as usize).wrapping_sub(1));
    line.unwrap_or_default().trim().to_owned()
}
