//! `ame python`: AME CPython, and plain builds to compare it with.
//!
//! How they are built is written down in one place, the recipe in cpython-shim, which the benchmarks
//! use as well. It prints its progress, and the interpreter as its result.

use crate::locate::Install;
use crate::output::print;
use anyhow::{bail, Context, Result};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ame python build                        a few minutes the first time
  ame python run app.py                   the threads of app.py run in parallel
  ame python run -c 'import ame; print(ame.parallel)'
  time $(ame python path --gil) app.py    the same on CPython as it is, same compiler and flags
  AME_LOG=app.trace ame python run app.py && ame report app.trace

What is built lies below ${XDG_CACHE_HOME:-~/.cache}/ame, once for each version of Ame, and can be
removed at any time. `path` and `run` build what is not there.")]
pub struct Args {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Build CPython 3.13 from Debian's source package and install it into the cache
    Build {
        #[command(flatten)]
        which: Which,
        /// Compile this many files at a time [default: one for each processor]
        #[arg(short, long, value_name = "N")]
        jobs: Option<u32>,
    },
    /// Print the path of the interpreter
    Path {
        #[command(flatten)]
        which: Which,
    },
    /// Run a program, with its exit code
    Run {
        #[command(flatten)]
        which: Which,
        /// Arguments of the interpreter: a script with its own arguments, or options such as -c, -m
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Which {
    /// Plain CPython with its GIL instead, same compiler and flags
    #[arg(long)]
    gil: bool,
    /// Free-threaded CPython instead, same compiler and flags
    #[arg(long, alias = "disable-gil")]
    free_threaded: bool,
}

impl Which {
    /// The recipe's name for it.
    fn variant(&self) -> &'static str {
        match (self.gil, self.free_threaded) {
            (true, _) => "plain",
            (_, true) => "free-threaded",
            _ => "parallel",
        }
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.command {
        Action::Build { which, jobs } => with_interpreter(which, *jobs, show),
        Action::Path { which } => with_interpreter(which, None, show),
        Action::Run { which, arguments } => with_interpreter(which, None, |interpreter| {
            let error = Command::new(&interpreter).args(arguments).exec();
            Err(error).with_context(|| format!("cannot run {}", interpreter.display()))
        }),
    }
}

fn show(interpreter: PathBuf) -> Result<ExitCode> {
    print(&format!("{}\n", interpreter.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Goes on with the interpreter whose threads run in parallel.
pub fn with_ame_cpython(then: impl FnOnce(PathBuf) -> Result<ExitCode>) -> Result<ExitCode> {
    let which = Which {
        gil: false,
        free_threaded: false,
    };
    with_interpreter(&which, None, then)
}

/// Goes on with plain CPython that has no GIL.
pub fn with_free_threaded(then: impl FnOnce(PathBuf) -> Result<ExitCode>) -> Result<ExitCode> {
    let which = Which {
        gil: false,
        free_threaded: true,
    };
    with_interpreter(&which, None, then)
}

/// Has the recipe make the interpreter, or find it, and goes on with it. The recipe says itself what
/// goes wrong.
fn with_interpreter(
    which: &Which,
    jobs: Option<u32>,
    then: impl FnOnce(PathBuf) -> Result<ExitCode>,
) -> Result<ExitCode> {
    let install = Install::find()?;
    let mut recipe = Command::new("python3");
    recipe.arg(install.recipe()?).arg(which.variant());
    if let Some(jobs) = jobs {
        recipe.arg("--jobs").arg(jobs.to_string());
    }
    recipe
        .arg("--artifacts")
        .arg(std::env::current_exe().context("cannot find the path of this executable")?)
        .args([
            install.plugin()?,
            install.runtime()?,
            install.runtime_static()?,
        ]);
    let output = recipe.stderr(Stdio::inherit()).output().context(
        "cannot run python3, which the build needs: install it with `sudo apt-get install python3`",
    )?;
    if !output.status.success() {
        let code = output
            .status
            .code()
            .and_then(|code| u8::try_from(code).ok());
        return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
    }
    let path =
        String::from_utf8(output.stdout).context("the path of the interpreter is no UTF-8")?;
    match path.trim_end() {
        "" => bail!("{:?} printed no interpreter", recipe.get_program()),
        path => then(PathBuf::from(path)),
    }
}
