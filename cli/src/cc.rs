//! `ame cc`, `ame c++`: clang with the plugin, the header and the runtime.
//!
//! [`request`] reads the arguments, [`command`] builds clang's argument vector from what was read
//! (a pure function), and [`run`] becomes clang: signals and exit codes are its own.

mod command;
mod limits;
mod request;
mod response;

use crate::locate::{self, Install};
use anyhow::{Context, Result};
use command::Tools;
use request::{Request, Stage};
use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

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
    let request = Request::parse(args, &response::read)?;
    let clang = locate::clang(language == Language::Cxx)?;
    let tools = tools(&request, clang.into())?;
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
    if request.instruments() || request.own.print_ccache_env {
        tools.plugin = Some(install.plugin()?.to_path_buf());
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
