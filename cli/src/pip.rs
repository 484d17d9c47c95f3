//! `ame pip`: pip of AME CPython, with `ame cc` as the compiler.
//!
//! What it does beyond pip is in cpython-shim/python/ame_pip.py, which the interpreter runs.

use crate::locate::Install;
use crate::python;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Shown by `ame help pip`; `ame pip --help` is pip's.
pub const HELP: &str = "\
Everything goes to pip as it is written. Packages that contain C or C++ are compiled from source with
`ame cc`, so that transactions that call them run in parallel; pure Python packages are installed as usual.

Examples:
  ame pip install ujson markupsafe        into AME CPython itself: ame python run app.py finds them
  ame pip install --no-binary simplejson simplejson
                                          from source also where there is a wheel without C code
  AME_WHEELS=1 ame pip install PACKAGE    ready-made wheels too: transactions that call them run alone
  ame python run -m venv env && . env/bin/activate && ame pip install -r requirements.txt

In an active virtual environment (VIRTUAL_ENV) it is pip of that environment. Without one the packages
belong to this version of Ame: they lie in its interpreter's folder below ${XDG_CACHE_HOME:-~/.cache}/ame.";

/// Replaces this process by pip.
pub fn run(arguments: &[OsString]) -> Result<ExitCode> {
    let script = Install::find()?
        .recipe()?
        .with_file_name("python/ame_pip.py");
    if let Some(environment) = std::env::var_os("VIRTUAL_ENV").filter(|path| !path.is_empty()) {
        let interpreter = PathBuf::from(environment).join("bin/python");
        return become_pip(&interpreter, &script, arguments).context(
            "VIRTUAL_ENV names an environment that cannot be used: unset it, or make it anew",
        );
    }
    python::with_ame_cpython(|interpreter| become_pip(&interpreter, &script, arguments))
}

fn become_pip(interpreter: &Path, script: &Path, arguments: &[OsString]) -> Result<ExitCode> {
    let error = Command::new(interpreter).arg(script).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", interpreter.display()))
}
