//! The LLVM pass of Ame.

#![deny(unsafe_code)]
#![deny(clippy::undocumented_unsafe_blocks)]

mod analysis;
mod attributes;
mod callee;
#[allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
mod ffi;
mod instrument;
mod marks;
mod options;
mod plugin;
mod report;
mod tag;
