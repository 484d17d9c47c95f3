//! Extension modules of CPython with a GIL of their own: the domain.
//!
//! A file belongs to one when it has the functions of `cpython-shim/extension/domain.h`, which stands before
//! CPython's `Python.h`. It gets no barriers. At the start of the pipeline
//!
//! - [`entries`]: functions whose address others learn (method tables, type slots, callbacks) are entered
//!   through a thunk that takes the domain. Direct calls stay direct;
//! - [`calls`]: calls of CPython's API that may run Python code, wait or release the GIL give the domain up
//!   meanwhile; functions that lend references out are replaced;
//! - [`bodies`]: where entries may be transactions, functions get bodies that have barriers;
//! - [`parallel`]: on an interpreter with a GIL some entries run without that, in bodies;
//! - [`reports`]: direct uses of memory that only the GIL made safe are reported.
//!
//! Which functions of the API are harmless, and which are replaced, the set `python-extension` says.

mod bodies;
mod calls;
mod entries;
mod parallel;
mod reports;

use crate::ffi::{Builder, Module, Value};
use crate::options::Options;
use crate::report::Report;
use ame_annotations::Sets;
use parallel::Marked;
use std::path::PathBuf;
use std::sync::OnceLock;

/// What the header defines: the module has it, or it is no extension.
const DOMAIN: &str = "ame_extension_domain";
/// What the names of all functions of the header start with.
const PREFIX: &str = "ame_extension_";
/// Named metadata of a module that is done.
const DONE: &str = "ame.extension";

pub fn is_one(module: Module) -> bool {
    module.global(DOMAIN).is_some()
}

/// The module, and the functions of the header.
struct Extension<'a> {
    module: Module,
    builder: Builder,
    sets: &'static Sets,
    /// What functions of CPython do beside a transaction, where entries may be some.
    elision: Option<&'static Sets>,
    /// Where the interpreter has a GIL: which entries run without it.
    parallel: Option<&'a Marked>,
}

impl Extension<'_> {
    fn function(&self, name: &str) -> Result<Value, String> {
        self.module.function(name).ok_or_else(|| {
            format!("{name} is not in the file: domain.h and the plugin are of different versions of Ame")
        })
    }
}

/// Whether it is one of the header's own functions.
fn is_glue(function: Value) -> bool {
    function.name().starts_with(PREFIX)
}

/// Whether CPython defines functions of this name.
fn is_api(name: &str) -> bool {
    name.starts_with("Py") || name.starts_with("_Py")
}

fn sets(options: &Options) -> Result<&'static Sets, String> {
    static SETS: OnceLock<Result<Sets, String>> = OnceLock::new();
    SETS.get_or_init(|| {
        let mut all = vec![PathBuf::from("libc"), PathBuf::from("python-extension")];
        all.extend_from_slice(&options.annotations);
        Sets::load(&all).map_err(|e| format!("AME_ANNOTATIONS:\n{e}"))
    })
    .as_ref()
    .map_err(Clone::clone)
}

fn elision_sets() -> Result<&'static Sets, String> {
    static SETS: OnceLock<Result<Sets, String>> = OnceLock::new();
    SETS.get_or_init(|| {
        let all = [PathBuf::from("libc"), PathBuf::from("python-elision")];
        Sets::load(&all).map_err(|e| format!("python-elision:\n{e}"))
    })
    .as_ref()
    .map_err(Clone::clone)
}

/// Barriers of the bodies; true when there are some.
pub fn instrument(module: Module, options: &Options) -> Result<bool, String> {
    if !options.elide {
        return Ok(false);
    }
    crate::instrument::bodies(module, elision_sets()?, options)
}

/// A file of an extension without `Python.h`: only its bodies matter. True when the module was changed.
pub fn run_without_header(module: Module, options: &Options) -> Result<bool, String> {
    if !options.elide || module.has_named_metadata(DONE) {
        return Ok(false);
    }
    let sets = elision_sets()?;
    let mut report = Report::new(module, options);
    let bodies = bodies::make(module, sets, None, &mut report)?;
    entries::dispatch(module, &bodies, sets);
    bodies.link(module);
    module.add_named_metadata(DONE, module.string_node(&[env!("CARGO_PKG_VERSION")]));
    report.write("extension", options)?;
    Ok(true)
}

/// True when the module was changed.
pub fn run(module: Module, options: &Options) -> Result<bool, String> {
    if module.has_named_metadata(DONE) {
        return Ok(false);
    }
    let marked = options
        .parallel
        .as_ref()
        .map(|parallel| Marked::find(module, parallel))
        .transpose()?;
    let extension = Extension {
        module,
        builder: Builder::new(module),
        sets: sets(options)?,
        elision: options.elide.then(elision_sets).transpose()?,
        parallel: marked.as_ref(),
    };
    let mut report = Report::new(module, options);
    reports::write(&extension, &mut report);
    calls::replace(&extension, &mut report)?;
    let bodies = extension
        .elision
        .map(|sets| bodies::make(module, sets, Some(&extension), &mut report))
        .transpose()?;
    calls::give_up(&extension, &mut report)?;
    entries::make(&extension, bodies.as_ref(), &mut report)?;
    if let Some(bodies) = bodies {
        bodies.link(module);
    }
    module.add_named_metadata(DONE, module.string_node(&[env!("CARGO_PKG_VERSION")]));
    report.write("extension", options)?;
    Ok(true)
}
