//! What Ame does not handle, or not well.

use super::{calls, is_python_header, place, target, Place};
use crate::ffi::{attribute_kind, Module, Opcode, Value};
use serde::Serialize;

#[derive(Serialize)]
pub struct Unsupported {
    /// `assembly`, `setjmp`, `longjmp`, `varargs`, `member`, `thread`.
    construct: &'static str,
    detail: String,
    #[serde(flatten)]
    place: Place,
}

pub fn find(function: Value, found: &mut Vec<Unsupported>) {
    let returns_twice = attribute_kind("returns_twice");
    for call in calls(function) {
        let callee = target(call.callee());
        let place = place(function, call);
        if is_python_header(&place.file) || place.file.starts_with("/usr/") {
            continue;
        }
        let mut add = |construct, detail: &str| {
            found.push(Unsupported {
                construct,
                detail: detail.to_owned(),
                place: place.clone(),
            });
        };
        if callee.is_inline_asm() {
            let (text, _, _) = callee.assembly();
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            // An empty one only keeps the compiler from moving things.
            if !text.is_empty() {
                add("assembly", &text);
            }
        } else if callee.is_function() {
            match callee.name() {
                "longjmp" | "siglongjmp" | "_longjmp" | "__longjmp_chk" => {
                    add("longjmp", callee.name())
                }
                "pthread_create" | "thrd_create" => add("thread", callee.name()),
                name if callee.function_has(returns_twice) && !name.contains("fork") => {
                    add("setjmp", name)
                }
                _ => {}
            }
        }
    }
    let is_entry = function.value_type().is_variadic()
        && function.users().any(|user| {
            !(matches!(user.opcode(), Some(Opcode::LLVMCall | Opcode::LLVMInvoke))
                && user.callee() == function)
        });
    if is_entry {
        let (file, line) = function.definition().unwrap_or_default();
        found.push(Unsupported {
            construct: "varargs",
            detail: function.name().to_owned(),
            place: Place {
                file,
                line,
                function: function.name().to_owned(),
            },
        });
    }
}

/// Members of objects that Python code may replace while the extension uses them: Python writes the field
/// itself, without the extension.
pub fn find_members(module: Module, found: &mut Vec<Unsupported>) {
    const NAMES: [(u64, &str); 2] = [(6, "T_OBJECT"), (16, "T_OBJECT_EX")];
    const READ_ONLY: u64 = 1;
    for table in module.globals() {
        let is_members = table.value_type().element().is_some_and(|e| {
            e.struct_name()
                .is_some_and(|n| n.starts_with("struct.PyMemberDef"))
        });
        let Some(content) = table.initializer().filter(|_| is_members) else {
            continue;
        };
        // name, type, offset, flags, documentation
        for member in (0..content.operands()).map(|i| content.operand(i)) {
            if member.operands() < 4 {
                continue;
            }
            let field = |wanted: fn(Value) -> Option<u64>, skip: usize| {
                (0..member.operands())
                    .filter_map(|i| wanted(member.operand(i)))
                    .nth(skip)
            };
            // Padding between them is a constant of its own, of bytes.
            let (ty, flags) = (field(Value::as_u64, 0), field(Value::as_u64, 2));
            let kind = NAMES.iter().find(|(number, _)| Some(*number) == ty);
            let (Some((_, kind)), Some(flags)) = (kind, flags) else {
                continue;
            };
            if flags & READ_ONLY != 0 {
                continue;
            }
            let name = Some(member.operand(0))
                .filter(|n| n.is_global_variable())
                .and_then(|n| n.initializer()?.constant_string());
            let declaration = table.declaration();
            found.push(Unsupported {
                construct: "member",
                detail: format!("{} ({kind})", name.unwrap_or_default()),
                place: Place {
                    file: declaration
                        .as_ref()
                        .map(|d| d.file.clone())
                        .unwrap_or_default(),
                    line: declaration.map_or(0, |d| d.line),
                    function: String::new(),
                },
            });
        }
    }
}
