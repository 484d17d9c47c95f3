//! Stack memory whose address leaves the function.
//!
//! Memory that only its own function reads and writes needs no barrier: no other thread sees it, and
//! a rollback restores the stack whole. Passing the address to a call that does not keep it is no
//! escape: the callee may use barriers on it, which does no harm.

use crate::ffi::{Opcode, Value};
use rustc_hash::{FxHashMap, FxHashSet};

/// Uses examined before an address is taken to escape.
const LIMIT: usize = 2000;

/// Remembers which allocas and by-value parameters escape.
#[derive(Default)]
pub struct Escapes {
    known: FxHashMap<Value, bool>,
}

impl Escapes {
    pub fn escapes(&mut self, memory: Value) -> bool {
        if let Some(&known) = self.known.get(&memory) {
            return known;
        }
        let escapes = escapes(memory);
        self.known.insert(memory, escapes);
        escapes
    }
}

fn escapes(memory: Value) -> bool {
    let mut seen: FxHashSet<Value> = FxHashSet::default();
    let mut work = vec![memory];
    let mut uses = 0;
    while let Some(pointer) = work.pop() {
        for user in pointer.users() {
            uses += 1;
            if uses > LIMIT || !user.is_instruction() {
                return true;
            }
            match user.opcode() {
                Some(Opcode::LLVMLoad | Opcode::LLVMICmp) => {}
                Some(Opcode::LLVMStore | Opcode::LLVMAtomicRMW) => {
                    // Operand 0 of a store is the value, of an atomic operation the address.
                    let value = u32::from(user.opcode() == Some(Opcode::LLVMAtomicRMW));
                    if user.operand(value) == pointer {
                        return true;
                    }
                }
                Some(Opcode::LLVMAtomicCmpXchg) => {
                    if user.operand(1) == pointer || user.operand(2) == pointer {
                        return true;
                    }
                }
                Some(
                    Opcode::LLVMGetElementPtr
                    | Opcode::LLVMBitCast
                    | Opcode::LLVMPHI
                    | Opcode::LLVMSelect,
                ) => {
                    if user.ty().is_vector() {
                        return true;
                    }
                    if seen.insert(user) {
                        work.push(user);
                    }
                }
                Some(Opcode::LLVMCall | Opcode::LLVMInvoke) => {
                    if call_keeps(user, pointer) {
                        return true;
                    }
                }
                _ => return true,
            }
        }
    }
    false
}

fn call_keeps(call: Value, pointer: Value) -> bool {
    let callee = call.callee();
    if callee == pointer {
        return true;
    }
    if callee.is_function() && callee.name().starts_with("llvm.") {
        let name = &callee.name()[5..];
        // These take addresses without the nocapture attribute, but keep none.
        if [
            "lifetime.",
            "va_start",
            "va_end",
            "va_copy",
            "invariant.",
            "dbg.",
            "var.annotation",
        ]
        .iter()
        .any(|p| name.starts_with(p))
        {
            return false;
        }
    }
    (0..call.arguments()).any(|i| call.operand(i) == pointer && !call.does_not_capture(i))
}
