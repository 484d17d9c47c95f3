//! Basic blocks.

use super::{ame_shim_first_insertion_point, ame_shim_split, Value};
use llvm_sys::core::*;
use llvm_sys::prelude::*;

/// A basic block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Block(pub(super) LLVMBasicBlockRef);

// SAFETY of all blocks: live handles (module docs).
impl Block {
    pub fn first(self) -> Option<Value> {
        Value::wrap(unsafe { LLVMGetFirstInstruction(self.0) })
    }
    pub fn terminator(self) -> Option<Value> {
        Value::wrap(unsafe { LLVMGetBasicBlockTerminator(self.0) })
    }
    pub fn next(self) -> Option<Block> {
        let next = unsafe { LLVMGetNextBasicBlock(self.0) };
        (!next.is_null()).then_some(Block(next))
    }
    pub fn function(self) -> Value {
        Value(unsafe { LLVMGetBasicBlockParent(self.0) })
    }
    pub fn instructions(self) -> impl Iterator<Item = Value> {
        std::iter::successors(self.first(), |v| v.next())
    }
    /// After phis and landing pads; `None` where nothing can be inserted.
    pub fn first_insertion_point(self) -> Option<Value> {
        Value::wrap(unsafe { ame_shim_first_insertion_point(self.0) })
    }
    pub fn successors(self) -> Vec<Block> {
        match self.terminator() {
            Some(terminator) => terminator.successors(),
            None => Vec::new(),
        }
    }
    /// Moves `at` and what follows into a new block, to which the old one then branches.
    pub fn split_before(at: Value) -> Block {
        Block(unsafe { ame_shim_split(at.0) })
    }
}
