//! The LLVM pass of Ame: `clang-19 -fpass-plugin=libame_pass.so`, or
//! `opt-19 -load-pass-plugin=libame_pass.so -passes=ame-tag,ame-instrument`.
//!
//! [`tag`] runs at the start of the pipeline: it finds the kinds of fields, variables and functions
//! and either marks accesses with `!ame` metadata or rewrites them. [`instrument`] runs at the end of
//! the optimiser: it chooses barriers, drops those that others cover, and inserts the rest.
//!
//! Options are environment variables. They can also be given as `-ame-...` to `opt-19`, and as
//! `-mllvm -ame-...` to clang when the plugin is loaded with `-fplugin=` as well: clang reads its
//! options before `-fpass-plugin=` loads anything. Options of the command line win.
//!
//! | variable | option | |
//! | --- | --- | --- |
//! | `AME_ANNOTATIONS` | `-ame-annotations` | annotation sets, `path[:path]`; `libc` always comes first |
//! | `AME_PASS_OPT` | `-ame-opt` | `-name[,-name]` switches optimisations off, `-all,+name` all but one; [`options`] lists them |
//! | `AME_PASS_STATS` | `-ame-stats` | file to which each module appends its counts, JSON lines |
//! | `AME_PASS_REMARKS` | `-ame-remarks` | file of remarks, JSON lines: module, function, file, line, access, rule, detail |
//! | `AME_CHECK` | | folder to which each module writes what in it relies on a GIL ([`check`]); code stays as it is |
//! | `AME_PASS_WARN` | `-ame-warn` | `1`: compiler warnings about what is slow because it is unknown |
//! | `AME_EXTENSION` | `-ame-extension` | `free-threaded`: what does not include `Python.h` belongs to such an extension, and stays as it is |
//! | | | `parallel`: the same for an interpreter with a GIL, without which some functions run |
//! | `AME_PARALLEL` | | which: `all`, or names with commas in between, besides those that the source marks |
//! | `AME_ELIDE` | | `1`: functions of such extensions get bodies with barriers as well, and their entries may be transactions |
//!
//! A file that includes `Python.h` of free-threaded CPython, or is compiled for functions without the GIL, goes another way: [`extension`].
//!
//! Limits: x86-64 Linux; scalable vectors and unsplit coroutines are compile errors. Where
//! annotation sets name hot functions, those that are not hot jump over the slow path in place instead of
//! having it at the function's end: the code generator is faster (CPython:
//! make 1.15 times), the functions slower (1.1 times); `-compact` switches that off.

#![deny(unsafe_code)]
#![deny(clippy::undocumented_unsafe_blocks)]

mod analysis;
mod attributes;
mod callee;
mod check;
mod extension;
#[allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
mod ffi;
mod instrument;
mod marks;
mod options;
mod plugin;
mod report;
mod tag;
