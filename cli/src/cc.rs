//! `ame cc`, `ame c++`: clang with the plugin, the header and the runtime.
//!
//! [`request`] reads the arguments, [`command`] builds clang's argument vector from what was read
//! (a pure function), and [`run`] becomes clang: signals and exit codes are its own.

mod command;
mod limits;
mod parallel;
mod request;
mod response;

use crate::locate::{self, Install};
use anyhow::{Context, Result};
use command::Tools;
use request::{Request, Stage};
use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Shown by `ame help cc`; `ame cc --help` is clang's.
pub const HELP: &str = "\
Everything goes to clang 19 as it is written; these flags are taken out and acted upon:
  -fame-annotations=SET   what fields and functions are, as TOML (repeatable)
  -fame-opt=LIST          switches for the pass, for example -hoist or -all,+redundancy
  -fame-remarks=FILE      write which rule applied to each access, as JSON lines
  -fame-stats=FILE        write counts of the pass, as JSON
  -fame-domain=NAME       what an extension of free-threaded CPython holds instead of the GIL;
                          those with the same name share it [default: one per module]
  -fame-static            link the runtime statically (programs, not shared libraries)
  -fame-ccache            run clang through ccache, with plugin and sets in the hash
  -fame-print-ccache-env  print the variables to set for `ccache ame-cc`, and stop
  -fno-ame                plain clang: no plugin, no runtime (-fame undoes it); so are extensions of a
                          Python with a GIL compiled, unless -fame is given or functions are to run
                          without the GIL: ame.toml beside setup.py has [parallel] with
                          functions = [\"NAME\", ...] or all = true, or the source says AME_PARALLEL

With -nostdlib, -nodefaultlibs or -r the runtime is not linked: add -lame_rt where it belongs.

Examples:
  ame cc -O2 -g bank.c -o bank
  CC='ame cc' ./configure && make
  CC=ame-cc CXX=ame-cxx cmake -B build && cmake --build build
  CC='ame cc' meson setup build
  CC='ame cc' LDSHARED='ame cc -shared' python setup.py build_ext
  eval \"$(ame cc -fame-print-ccache-env)\" && make CC='ccache ame-cc'

ccache around `ame cc` sees the command, not the plugin: without the variables that
-fame-print-ccache-env prints it may answer with objects of another plugin or set.

Environment: AME_HOME (folder of libame_pass.so, libame_rt.so, ame.h), AME_CLANG and AME_CLANGXX
(paths of clang 19), AME_ANNOTATIONS, AME_PASS_OPT and AME_DOMAIN (as the flags, for every file),
AME_EXTENSION=free-threaded (files without Python.h belong to an extension, too: no transactions),
AME_PARALLEL=all or NAME,NAME (in place of ame.toml).";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    C,
    Cxx,
}

impl Language {
    /// How the user called it, for messages.
    pub fn command(self) -> &'static str {
        match self {
            Language::C => "ame cc",
            Language::Cxx => "ame c++",
        }
    }
}

/// Replaces this process by clang. Returns only when that failed.
pub fn run(language: Language, args: &[OsString]) -> Result<Infallible> {
    let invocation = prepare(language, args)?;
    if let Some(text) = &invocation.print {
        print!("{text}");
        std::process::exit(0);
    }
    let mut command = Command::new(&invocation.program);
    command
        .args(&invocation.args)
        .envs(invocation.env.iter().map(|(name, value)| (name, value)));
    let error = command.exec();
    Err(error).with_context(|| {
        format!(
            "cannot run {} with {} arguments",
            invocation.program.to_string_lossy(),
            invocation.args.len()
        )
    })
}

/// What `ame cc ARGS` would run, with our files and clang found.
pub fn prepare(language: Language, args: &[OsString]) -> Result<command::Invocation> {
    let mut request = Request::parse(args, &response::read)?;
    let checks = std::env::var_os("AME_CHECK").is_some_and(|folder| !folder.is_empty());
    let mut parallel = None;
    if !checks && !request.own.asked && !request.own.plain && !has_annotations(&request) {
        parallel = without_gil(&request)?;
        request.own.plain = parallel.is_none() && has_gil(&request);
    }
    let clang = locate::clang(language == Language::Cxx)?;
    let mut tools = tools(&request, clang.into())?;
    tools.parallel = parallel;
    if checks {
        return command::check(&request, &tools);
    }
    command::build(&request, &tools, &|name| std::env::var_os(name))
}

/// Finds the files that this request needs, and only those: preprocessing works without a runtime.
fn tools(request: &Request, clang: OsString) -> Result<Tools> {
    let mut tools = Tools {
        clang,
        ..Tools::default()
    };
    if request.stage == Stage::Query && !request.own.print_ccache_env {
        return Ok(tools);
    }
    let install = Install::find()?;
    tools.include = Some(install.include()?.to_path_buf());
    tools.extension = install.extension.clone();
    tools.free_threaded = tools.extension.is_some() && is_free_threaded(request);
    if request.instruments() || request.own.print_ccache_env {
        tools.plugin = Some(install.plugin()?.to_path_buf());
    }
    if request.own.ccache || request.own.print_ccache_env {
        tools.set_files = set_files(request);
    }
    if request.links_runtime() {
        let library = if request.static_runtime() {
            install.runtime_static()?
        } else {
            install.runtime()?
        };
        tools.runtime = Some(library.to_path_buf());
    }
    if request.own.ccache && request.stage != Stage::Query {
        let ccache = locate::in_path("ccache".as_ref()).context(
            "-fame-ccache: ccache not found: install it with `sudo apt-get install ccache`",
        )?;
        tools.ccache = Some(ccache.into());
    }
    Ok(tools)
}

/// Whether an extension is compiled for an interpreter with a GIL: it stays plain code. The interpreter frees with
/// the C library's allocator what it gets from extensions, and the other way round.
fn has_gil(request: &Request) -> bool {
    // In CPython's own tree the two lie in different folders.
    let mut installed = request
        .include_folders()
        .filter(|folder| folder.join("Python.h").exists() && folder.join("pyconfig.h").exists());
    installed.next().is_some() && !is_free_threaded(request)
}

/// Which functions of an extension run without the GIL, for an interpreter that has one.
fn without_gil(request: &Request) -> Result<Option<String>> {
    let extension = std::env::var_os("AME_EXTENSION");
    let other = extension.is_some_and(|kind| !kind.is_empty() && kind != "parallel");
    if other || request.stage < Stage::Preprocess || is_free_threaded(request) {
        return Ok(None);
    }
    let folder = std::env::current_dir().context("cannot tell the current folder")?;
    parallel::find(std::env::var_os(parallel::VARIABLE).as_deref(), &folder)
}

/// AME CPython names its sets to the compiler of its extensions.
fn has_annotations(request: &Request) -> bool {
    !request.own.annotations.is_empty()
        || std::env::var_os("AME_ANNOTATIONS").is_some_and(|sets| !sets.is_empty())
}

/// Whether a folder that headers are searched in is that of free-threaded CPython.
fn is_free_threaded(request: &Request) -> bool {
    request.include_folders().any(|folder| {
        let config = std::fs::read_to_string(folder.join("pyconfig.h"));
        config.is_ok_and(|text| {
            let mut words = text.lines().map(|line| line.split_whitespace());
            words.any(|line| line.eq(["#define", "Py_GIL_DISABLED", "1"]))
        })
    })
}

/// Files behind the chosen annotation sets; those that come with Ame are part of the plugin.
fn set_files(request: &Request) -> Vec<PathBuf> {
    let inherited = std::env::var_os("AME_ANNOTATIONS").unwrap_or_default();
    let target = ame_annotations::layout::host_target();
    std::env::split_paths(&inherited)
        .chain(
            request
                .own
                .annotations
                .iter()
                .flat_map(std::env::split_paths),
        )
        .flat_map(|set| {
            let layout = ame_annotations::layout::path_for(&set, &target);
            [set, layout]
        })
        .filter(|path| path.is_file())
        .collect()
}
