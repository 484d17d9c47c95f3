//! Addresses as a base plus a constant, and the memory that a pointer points into.

use super::escape::Escapes;
use crate::ffi::{Module, Opcode, Value};
use rustc_hash::FxHashMap;

/// `base + offset` bytes; `base` is not itself such a sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    pub base: Value,
    pub offset: i64,
}

/// What a pointer points into, as far as that decides about barriers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Stack memory of this call whose address is known to no one else.
    Stack,
    /// Never written.
    Constant,
    /// A thread-local variable.
    ThreadLocal,
    Shared,
}

/// How many phis and selects [`Addresses::memory`] looks through.
const LIMIT: usize = 16;

/// Decomposes the pointers of one function; answers are kept.
pub struct Addresses {
    module: Module,
    sums: FxHashMap<Value, Address>,
    classes: FxHashMap<Value, Memory>,
    pub escapes: Escapes,
    /// The function runs below where its transaction began, beside an interpreter ([`crate::extension`]): its
    /// variables end with a rollback, and what it learns of the interpreter's memory does not change.
    pub body: bool,
}

/// Functions of CPython that return a pointer into an immutable object.
const INTO_IMMUTABLE: [&str; 5] = [
    "PyUnicode_AsUTF8",
    "PyUnicode_AsUTF8AndSize",
    "PyBytes_AsString",
    "PyUnicode_DATA",
    "PyCapsule_GetName",
];

impl Addresses {
    pub fn new(module: Module) -> Addresses {
        Addresses {
            module,
            sums: FxHashMap::default(),
            classes: FxHashMap::default(),
            escapes: Escapes::default(),
            body: false,
        }
    }

    pub fn address(&mut self, pointer: Value) -> Address {
        if let Some(&known) = self.sums.get(&pointer) {
            return known;
        }
        let mut at = Address {
            base: pointer,
            offset: 0,
        };
        loop {
            match at.base.opcode() {
                Some(Opcode::LLVMGetElementPtr) if !at.base.ty().is_vector() => {
                    let Some(add) = self.module.gep_offset(at.base) else {
                        break;
                    };
                    at.offset = at.offset.wrapping_add(add);
                    at.base = at.base.operand(0);
                }
                Some(Opcode::LLVMBitCast) => at.base = at.base.operand(0),
                _ => break,
            }
        }
        self.sums.insert(pointer, at);
        at
    }

    /// The memory that `pointer` points into.
    pub fn memory(&mut self, pointer: Value) -> Memory {
        let root = root(pointer);
        if let Some(&known) = self.classes.get(&root) {
            return known;
        }
        let class = self.classify(root);
        self.classes.insert(root, class);
        class
    }

    fn classify(&mut self, start: Value) -> Memory {
        let mut seen = vec![start];
        let mut next = 0;
        let mut class: Option<Memory> = None;
        while next < seen.len() {
            let value = seen[next];
            next += 1;
            let more = |seen: &mut Vec<Value>, v: Value| {
                let v = root(v);
                if !seen.contains(&v) {
                    seen.push(v);
                }
            };
            let here = match value.opcode() {
                Some(Opcode::LLVMPHI) => {
                    value.incoming().for_each(|(v, _)| more(&mut seen, v));
                    None
                }
                Some(Opcode::LLVMSelect) => {
                    more(&mut seen, value.operand(1));
                    more(&mut seen, value.operand(2));
                    None
                }
                Some(Opcode::LLVMAlloca) => Some(self.stack(value)),
                Some(Opcode::LLVMCall) if self.body && is_immutable(value.callee()) => {
                    Some(Memory::Constant)
                }
                Some(Opcode::LLVMCall) => Some(thread_local_address(value)),
                _ if value.is_global_variable() => Some(if value.is_thread_local() {
                    Memory::ThreadLocal
                } else if value.is_constant_global() {
                    Memory::Constant
                } else {
                    Memory::Shared
                }),
                _ if value.is_argument() && self.is_byval(value) => Some(self.stack(value)),
                _ => Some(Memory::Shared),
            };
            if seen.len() > LIMIT {
                return Memory::Shared;
            }
            match (class, here) {
                (_, None) => {}
                (None, found) => class = found,
                (Some(a), Some(b)) if a == b => {}
                _ => return Memory::Shared,
            }
        }
        class.unwrap_or(Memory::Shared)
    }

    fn stack(&mut self, value: Value) -> Memory {
        if !self.body && self.escapes.escapes(value) {
            Memory::Shared
        } else {
            Memory::Stack
        }
    }

    fn is_byval(&self, argument: Value) -> bool {
        let function = argument.parameter_owner();
        let kind = crate::ffi::attribute_kind("byval");
        function
            .parameters()
            .iter()
            .position(|&p| p == argument)
            .is_some_and(|i| function.parameter_has(i as u32, kind))
    }
}

/// Follows GEPs, casts and aliases to where the address comes from.
pub fn root(pointer: Value) -> Value {
    let mut at = pointer;
    loop {
        match at.opcode() {
            Some(Opcode::LLVMGetElementPtr | Opcode::LLVMBitCast | Opcode::LLVMAddrSpaceCast) => {
                at = at.operand(0)
            }
            None if at.is_alias() => at = at.aliasee(),
            _ => return at,
        }
    }
}

fn is_immutable(callee: Value) -> bool {
    callee.is_function() && INTO_IMMUTABLE.contains(&callee.name())
}

fn thread_local_address(call: Value) -> Memory {
    let callee = call.callee();
    if callee.is_function() && callee.name().starts_with("llvm.threadlocal.address") {
        Memory::ThreadLocal
    } else {
        Memory::Shared
    }
}
