//! The Python that an extension is built for.

use crate::python;
use anyhow::{bail, Context, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What there is to know of it, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Interpreter {
    #[serde(skip)]
    pub path: PathBuf,
    implementation: String,
    version: (u32, u32),
    pub free_threaded: bool,
    ame: bool,
    pip: bool,
    ensurepip: bool,
    include: PathBuf,
}

const ASK: &str = "\
import importlib.util, json, sys, sysconfig
there = lambda name: importlib.util.find_spec(name) is not None
print(json.dumps({'implementation': sys.implementation.name, 'version': sys.version_info[:2],
    'free_threaded': bool(sysconfig.get_config_var('Py_GIL_DISABLED')), 'ame': there('_ame'),
    'pip': there('pip'), 'ensurepip': there('ensurepip'), 'include': sysconfig.get_path('include')}))";

/// The oldest and the newest CPython that is known to work.
const VERSIONS: ((u32, u32), (u32, u32)) = ((3, 11), (3, 13));

impl Interpreter {
    /// Goes on with the chosen interpreter; else with that of the active virtual environment; else with
    /// our own free-threaded build.
    pub fn with(
        chosen: Option<&Path>,
        then: impl FnOnce(Interpreter) -> Result<ExitCode>,
    ) -> Result<ExitCode> {
        if let Some(path) = chosen {
            return then(Interpreter::at(path)?);
        }
        if let Some(folder) = std::env::var_os("VIRTUAL_ENV").filter(|path| !path.is_empty()) {
            let path = PathBuf::from(folder).join("bin/python");
            return then(Interpreter::at(&path).context(
                "VIRTUAL_ENV names an environment that cannot be used: unset it, or give --python",
            )?);
        }
        python::with_free_threaded(|path| then(Interpreter::at(&path)?))
    }

    /// Asks the interpreter, and refuses one that cannot be built for.
    fn at(path: &Path) -> Result<Interpreter> {
        let output = Command::new(path)
            .args(["-c", ASK])
            .output()
            .with_context(|| {
                format!(
                    "cannot run {}: --python takes an interpreter",
                    path.display()
                )
            })?;
        if !output.status.success() {
            bail!(
                "{} is no Python that works: {}",
                path.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let mut found: Interpreter = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{} does not answer as a Python does", path.display()))?;
        found.path = path.to_path_buf();
        found.refuse()?;
        if !found.pip {
            found.get_pip()?;
        }
        Ok(found)
    }

    fn refuse(&self) -> Result<()> {
        let path = self.path.display();
        let (major, minor) = self.version;
        if self.implementation != "cpython" {
            bail!(
                "{path} is {}: only CPython is supported",
                self.implementation
            );
        }
        if self.ame {
            bail!("{path} is AME CPython, whose extensions run inside its transactions: use `ame pip install`");
        }
        if self.version < VERSIONS.0 || self.version > VERSIONS.1 {
            bail!(
                "{path} is CPython {major}.{minor}: supported are 3.{} to 3.{}, with a GIL or free-threaded",
                VERSIONS.0 .1,
                VERSIONS.1 .1
            );
        }
        if !self.include.join("Python.h").is_file() {
            bail!(
                "{path} has no headers: there is no {}; for Debian's Python install them with \
                 `sudo apt-get install python{major}.{minor}-dev`",
                self.include.join("Python.h").display()
            );
        }
        Ok(())
    }

    /// pip is part of CPython, and put there only when somebody wants it.
    fn get_pip(&mut self) -> Result<()> {
        let path = self.path.display();
        if !self.ensurepip {
            bail!(
                "{path} has no pip: install it, for Debian's Python with \
                 `sudo apt-get install python3-pip`, or make an environment with `{path} -m venv`"
            );
        }
        let status = Command::new(&self.path)
            .args(["-m", "ensurepip"])
            .stdout(std::io::stderr())
            .status()
            .with_context(|| format!("cannot run {path}"))?;
        if !status.success() {
            bail!("`{path} -m ensurepip` failed: make an environment with `{path} -m venv`, and build for that");
        }
        self.pip = true;
        Ok(())
    }

    /// `CPython 3.13, free-threaded`.
    pub fn name(&self) -> String {
        let kind = if self.free_threaded {
            "free-threaded"
        } else {
            "with its GIL"
        };
        format!("CPython {}.{}, {kind}", self.version.0, self.version.1)
    }

    /// `PYTHON -m pip`, saying nothing about itself.
    pub fn pip(&self) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(["-m", "pip"])
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
            .env("PIP_ROOT_USER_ACTION", "ignore");
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable(folder: &Path) -> Interpreter {
        std::fs::write(folder.join("Python.h"), "").unwrap();
        Interpreter {
            path: "/python".into(),
            implementation: "cpython".into(),
            version: (3, 13),
            free_threaded: true,
            ame: false,
            pip: true,
            ensurepip: true,
            include: folder.into(),
        }
    }

    #[test]
    fn what_cannot_be_built_for_is_refused_with_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let good = usable(folder.path());
        good.refuse().unwrap();
        let refused = |change: &dyn Fn(&mut Interpreter), word: &str| {
            let mut bad = good.clone();
            change(&mut bad);
            let message = bad.refuse().unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        };
        refused(&|it| it.implementation = "pypy".into(), "only CPython");
        refused(&|it| it.version = (3, 10), "3.11 to 3.13");
        refused(&|it| it.version = (3, 14), "3.11 to 3.13");
        refused(&|it| it.ame = true, "ame pip install");
        refused(&|it| it.include = "/nowhere".into(), "python3.13-dev");
    }
}
