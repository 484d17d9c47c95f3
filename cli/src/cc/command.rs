//! Builds the command that `ame cc` becomes. Nothing here reads the world: files, environment and
//! paths come in as arguments, so that each rule has a test.

use super::request::{Request, Stage};
use anyhow::{Context, Result};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The programs and files that a request needs.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    pub clang: OsString,
    pub ccache: Option<OsString>,
    pub include: Option<PathBuf>,
    /// Folder of the `Python.h` that stands before CPython's.
    pub extension: Option<PathBuf>,
    /// The headers of free-threaded CPython are among the user's folders.
    pub free_threaded: bool,
    pub plugin: Option<PathBuf>,
    /// Which functions run without the GIL of the interpreter that has one.
    pub parallel: Option<String>,
    /// Annotation sets that are files, with their layouts; only wanted for ccache.
    pub set_files: Vec<PathBuf>,
    /// `libame_rt.so`, or `libame_rt.a` for a static runtime.
    pub runtime: Option<PathBuf>,
}

/// What to execute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    pub program: OsString,
    pub args: Vec<OsString>,
    /// Variables to set on top of the inherited environment.
    pub env: Vec<(OsString, OsString)>,
    /// Print this and stop instead.
    pub print: Option<String>,
}

/// System libraries that the static runtime needs, all of them part of glibc and the compiler.
const STATIC_NEEDS: &[&str] = &["-lpthread", "-ldl", "-lm", "-lgcc_s"];
/// In a fully static program the runtime's `free` and `realloc` stand beside the C library's, which
/// are in the same object file as what they forward to: the first definition counts.
const STATIC_NEEDS_FULLY: &[&str] = &[
    "-lpthread",
    "-ldl",
    "-lm",
    "-lgcc_eh",
    "-Wl,--allow-multiple-definition",
];

/// Builds clang's argument vector: the plugin, the user's arguments, the runtime. `env` reads the
/// inherited environment.
pub fn build(
    request: &Request,
    tools: &Tools,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Invocation> {
    let own = &request.own;
    let mut invocation = Invocation {
        program: tools.clang.clone(),
        ..Invocation::default()
    };
    let annotations = joined(env("AME_ANNOTATIONS"), &own.annotations, ":");
    let optimisations = joined(env("AME_PASS_OPT"), &own.optimisations, ",");
    if own.print_ccache_env {
        let mut text = String::from("export CCACHE_COMPILERTYPE=clang\n");
        for (name, value) in ccache_env(tools, annotations, optimisations, env) {
            text += &format!("export {}={}\n", name.to_string_lossy(), quoted(&value));
        }
        invocation.print = Some(text);
        return Ok(invocation);
    }
    if request.stage == Stage::Query {
        invocation.args.clone_from(&request.forwarded);
        return Ok(invocation);
    }

    let args = &mut invocation.args;
    // -Werror must not trip over our flags where they have nothing to do (assembler, objects).
    args.push("--start-no-unused-arguments".into());
    if let Some(extension) = tools.extension.as_ref().filter(|_| !own.plain) {
        // Before every folder of the user.
        args.push(prefixed("-I", extension.as_os_str()));
        let domain = own.domain.clone().or_else(|| env("AME_DOMAIN"));
        if let Some(domain) = domain.filter(|name| !name.is_empty()) {
            args.push(prefixed("-DAME_EXTENSION_DOMAIN=", &c_string(&domain)?));
        }
        if tools.parallel.is_some() {
            args.push("-DAME_EXTENSION_PARALLEL".into());
        }
    }
    if request.instruments() {
        let plugin = tools.plugin.as_ref().context("no plugin was given")?;
        args.push(prefixed("-fpass-plugin=", plugin.as_os_str()));
    }
    if let Some(include) = &tools.include {
        // A system folder: searched after every -I of the user, silent under -Weverything.
        args.push("-isystem".into());
        args.push(include.into());
    }
    args.push("--end-no-unused-arguments".into());
    args.extend(request.forwarded.iter().cloned());
    if request.instruments() {
        if request.limits.needs_no_function_check() {
            args.push("-fno-sanitize=function".into());
        }
        let mut set = |name: &str, value: Option<&OsStr>| {
            if let Some(value) = value {
                invocation.env.push((name.into(), value.into()));
            }
        };
        set(
            "AME_ANNOTATIONS",
            annotations
                .as_deref()
                .filter(|_| !own.annotations.is_empty()),
        );
        set(
            "AME_PASS_OPT",
            optimisations
                .as_deref()
                .filter(|_| !own.optimisations.is_empty()),
        );
        // What is compiled for an extension, and does not include its header itself.
        let kind = match tools.parallel {
            Some(_) => Some("parallel"),
            None => Some("free-threaded").filter(|_| tools.free_threaded),
        };
        set("AME_EXTENSION", kind.map(OsStr::new));
        set("AME_PARALLEL", tools.parallel.as_deref().map(OsStr::new));
        set("AME_PASS_REMARKS", own.remarks.as_deref());
        set("AME_PASS_STATS", own.stats.as_deref());
    }
    if request.links_runtime() {
        link_runtime(request, tools, &mut invocation.args)?;
    }
    // A cached object would come without its report, so there clang runs.
    let reports = own.remarks.is_some() || own.stats.is_some();
    if let Some(ccache) = tools.ccache.as_ref().filter(|_| !reports) {
        invocation
            .env
            .extend(ccache_env(tools, annotations, optimisations, env));
        let clang = std::mem::replace(&mut invocation.program, ccache.clone());
        invocation.args.insert(0, clang);
    }
    Ok(invocation)
}

/// For `ame ext check`: plain code, which the plugin looks at. It needs to know lines, and values in registers,
/// which -O0 forbids; headers are those that everybody has.
pub fn check(request: &Request, tools: &Tools) -> Result<Invocation> {
    let mut invocation = Invocation {
        program: tools.clang.clone(),
        ..Invocation::default()
    };
    let args = &mut invocation.args;
    if !request.instruments() {
        args.clone_from(&request.forwarded);
        return Ok(invocation);
    }
    let plugin = tools.plugin.as_ref().context("no plugin was given")?;
    args.push("--start-no-unused-arguments".into());
    args.push(prefixed("-fpass-plugin=", plugin.as_os_str()));
    if let Some(include) = &tools.include {
        args.push("-isystem".into());
        args.push(include.into());
    }
    args.extend(request.forwarded.iter().cloned());
    args.extend(["-g", "-O1", "--end-no-unused-arguments"].map(OsString::from));
    Ok(invocation)
}

/// The runtime comes last: libraries are searched for what the files before them need.
fn link_runtime(request: &Request, tools: &Tools, args: &mut Vec<OsString>) -> Result<()> {
    let library = tools.runtime.as_ref().context("no runtime was given")?;
    let folder = library.parent().context("the runtime has no folder")?;
    args.push(prefixed("-L", folder.as_os_str()));
    if request.static_runtime() {
        // By name and not by path: after `-x c` a path would be compiled as C.
        args.push("-l:libame_rt.a".into());
        let needs = if request.fully_static {
            STATIC_NEEDS_FULLY
        } else {
            STATIC_NEEDS
        };
        args.extend(needs.iter().map(OsString::from));
    } else {
        // A library of plain code does without.
        let words: [&[&str]; 2] = if request.shared {
            [&["--push-state", "--as-needed"], &["--pop-state"]]
        } else {
            [&[], &[]]
        };
        let linker = |args: &mut Vec<OsString>, words: &[&str]| {
            args.extend(
                words
                    .iter()
                    .flat_map(|word| ["-Xlinker".into(), word.into()]),
            );
        };
        linker(args, words[0]);
        args.push("-lame_rt".into());
        linker(args, words[1]);
        // One word per linker option, so that a comma in the path cannot split it.
        for word in ["-rpath".as_ref(), folder.as_os_str()] {
            args.push("-Xlinker".into());
            args.push(word.into());
        }
    }
    Ok(())
}

/// What ccache has to know so that all that the result depends on is in its hash: the plugin and
/// the sets as files, and the options that go by environment as its namespace.
fn ccache_env(
    tools: &Tools,
    annotations: Option<OsString>,
    optimisations: Option<OsString>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Vec<(OsString, OsString)> {
    let files: Vec<OsString> = tools
        .plugin
        .iter()
        .chain(&tools.set_files)
        .map(OsString::from)
        .collect();
    let options: Vec<OsString> = annotations.into_iter().chain(optimisations).collect();
    let variable = |name: &str, more: &[OsString]| {
        let value = joined(env(name), more, ":")?;
        Some((name.into(), value))
    };
    let files = variable("CCACHE_EXTRAFILES", &files);
    let options = if options.is_empty() {
        None
    } else {
        variable("CCACHE_NAMESPACE", &options)
    };
    files.into_iter().chain(options).collect()
}

fn joined(inherited: Option<OsString>, values: &[OsString], separator: &str) -> Option<OsString> {
    let mut all = OsString::new();
    for value in inherited
        .iter()
        .filter(|value| !value.is_empty())
        .chain(values)
    {
        if !all.is_empty() {
            all.push(separator);
        }
        all.push(value);
    }
    (!all.is_empty()).then_some(all)
}

fn prefixed(prefix: &str, value: &OsStr) -> OsString {
    let mut word = OsString::from(prefix);
    word.push(value);
    word
}

/// A literal of C.
fn c_string(text: &OsStr) -> Result<OsString> {
    let text = text
        .to_str()
        .filter(|t| !t.contains(['"', '\\', '\n', '\0']));
    let text = text.context("the name of a domain has no quotes, backslashes or line ends")?;
    Ok(format!("\"{text}\"").into())
}

/// A word for a POSIX shell.
fn quoted(text: &OsStr) -> String {
    format!("'{}'", text.to_string_lossy().replace('\'', r"'\''"))
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
