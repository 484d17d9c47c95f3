//! Annotation sets: what the fields, functions and globals of unmodified C code are.
//!
//! A *set* is a TOML file (docs/annotations.md). [`Sets`] holds one or more of them, later ones
//! overriding earlier ones, and answers the pass by name: which kind the bytes of a struct have,
//! how a function is to be called, what a global is.
//!
//! LLVM IR knows struct fields by byte offset only. Sets name fields, so a *layout file*, generated
//! from the real headers by `ame annotations check --write-layout`, stands beside a set and turns
//! names into offsets ([`layout`]). The feature `check` contains the generator and the checker.

#![cfg_attr(not(feature = "check"), forbid(unsafe_code))]
#![cfg_attr(feature = "check", deny(unsafe_code))]

#[cfg(feature = "check")]
pub mod check;
pub mod diagnostic;
mod file;
pub mod function;
pub mod kind;
pub mod layout;
mod parse;
pub mod pattern;
mod resolve;
mod sets;
mod toml_view;

pub use diagnostic::{Diagnostic, Error};
pub use function::{FunctionKind, FunctionRule, Len, Range};
pub use kind::FieldKind;
pub use sets::{FieldRule, GlobalRule, Origin, Sets, StructRule};
