//! `ame annotations explain FILE.c`: what the pass does at each access of a file, and why.
//!
//! Compiles the file once with `ame cc -fame-remarks` and puts the remarks in source order.

use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ame annotations explain bank.c
  ame annotations explain bank.c --function transfer -- -O3 -Iinclude
  ame annotations explain obj.c -- -O2 -fame-annotations=cpython-3.13 -IInclude

The file is compiled with -O2 unless the arguments say otherwise; the result is thrown away. An
access of several instructions shows each; what the optimiser removed is not shown.")]
pub struct Args {
    /// A C file (for C++ add `-- -x c++`)
    file: PathBuf,
    /// Only accesses in this function
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Also show accesses in headers
    #[arg(long)]
    headers: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Arguments for clang, and flags of ours (-fame-annotations=...)
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// One line of the pass' report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remark {
    file: String,
    line: u32,
    function: String,
    /// `read`, `write` or `call`.
    access: String,
    /// One word: `barrier`, or why there is none.
    rule: String,
    detail: String,
    /// How many accesses this stands for.
    #[serde(default = "once")]
    count: u64,
}

fn once() -> u64 {
    1
}

pub fn run(args: &Args) -> Result<()> {
    let text = compile(&args.file, &args.args)?;
    let mut remarks = parse(&text)?;
    if let Some(function) = &args.function {
        let functions: BTreeSet<_> = remarks
            .iter()
            .map(|remark| remark.function.clone())
            .collect();
        if !functions.contains(function) && !functions.is_empty() {
            let names: Vec<_> = functions.into_iter().collect();
            bail!(
                "no access in a function {function} (was it inlined? `-- -O0` keeps it); there \
                 are some in {}",
                names.join(", ")
            );
        }
        remarks.retain(|remark| &remark.function == function);
    }
    if !args.headers {
        let headers_too = remarks.len();
        remarks.retain(|remark| is_of(&remark.file, &args.file));
        if remarks.is_empty() && headers_too > 0 {
            bail!("all {headers_too} accesses are in headers: add --headers to see them");
        }
    }
    let remarks = in_order(remarks);
    let text = if args.json {
        serde_json::to_string_pretty(&remarks).context("cannot write JSON")? + "\n"
    } else {
        render(&remarks)
    };
    crate::output::print(&text)
}

/// Compiles and returns the remarks as the pass wrote them.
fn compile(file: &Path, args: &[OsString]) -> Result<String> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let remarks = folder.path().join("remarks.jsonl");
    let mut flag = OsString::from("-fame-remarks=");
    flag.push(&remarks);
    let exe = std::env::current_exe().context("cannot find the path of this executable")?;
    let mut command = Command::new(exe);
    // Lines need debug information; a level that the user gives comes later and wins.
    command.args(["cc", "-O2", "-gline-tables-only"]);
    command.args(without_output(args)).arg("-c").arg(file);
    command.arg("-o").arg(folder.path().join("out.o")).arg(flag);
    let status = command.status().context("cannot run `ame cc`")?;
    if !status.success() {
        bail!(
            "`ame cc` failed on {}: add the arguments that it needs after --",
            file.display()
        );
    }
    match std::fs::read_to_string(&remarks) {
        Ok(text) => Ok(text),
        // No access, no file.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).context("cannot read the remarks of the pass"),
    }
}

/// A compile command is often pasted with its output; ours goes elsewhere.
fn without_output(args: &[OsString]) -> Vec<&OsStr> {
    let mut kept = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("-o") => {
                args.next();
            }
            Some("-c" | "-S" | "-E") => {}
            _ => kept.push(arg.as_os_str()),
        }
    }
    kept
}

fn parse(text: &str) -> Result<Vec<Remark>> {
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            serde_json::from_str(line).with_context(|| {
                format!("the pass wrote a remark that this `ame` cannot read: {line}")
            })
        })
        .collect()
}

/// The debug information may have the path with its folder.
fn is_of(file: &str, main: &Path) -> bool {
    file.is_empty() || Path::new(file).ends_with(main) || Path::new(file) == main
}

/// By place in the source; the same thing on one line is one entry with a count.
fn in_order(remarks: Vec<Remark>) -> Vec<Remark> {
    let mut ordered: BTreeMap<(String, u32), Vec<Remark>> = BTreeMap::new();
    for remark in remarks {
        let on_line = ordered
            .entry((remark.file.clone(), remark.line))
            .or_default();
        let same = on_line.iter_mut().find(|other| {
            (&other.function, &other.access, &other.rule, &other.detail)
                == (
                    &remark.function,
                    &remark.access,
                    &remark.rule,
                    &remark.detail,
                )
        });
        match same {
            Some(other) => other.count += remark.count,
            None => on_line.push(remark),
        }
    }
    ordered.into_values().flatten().collect()
}

fn render(remarks: &[Remark]) -> String {
    let mut out = String::new();
    let mut sources: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let (mut file, mut line) = (None, None);
    for remark in remarks {
        if file != Some(&remark.file) {
            let name = if remark.file.is_empty() {
                "no source line"
            } else {
                &remark.file
            };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{name}");
            (file, line) = (Some(&remark.file), None);
        }
        if line != Some(remark.line) && remark.line > 0 {
            let lines = sources.entry(&remark.file).or_insert_with(|| {
                let text = std::fs::read(&remark.file).unwrap_or_default();
                String::from_utf8_lossy(&text)
                    .lines()
                    .map(|line| line.trim().into())
                    .collect()
            });
            let source = lines
                .get(remark.line as usize - 1)
                .map_or("", String::as_str);
            let _ = writeln!(out, "{:>5}  {source}", remark.line);
        }
        line = Some(remark.line);
        let times = if remark.count > 1 {
            format!(" (x{})", remark.count)
        } else {
            String::new()
        };
        let _ = writeln!(
            out,
            "         {:<5} {:<14} {}, in {}{times}",
            remark.access, remark.rule, remark.detail, remark.function
        );
    }
    if remarks.is_empty() {
        out += "The pass found no access that transactions have to know of.\n";
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remark(line: u32, rule: &str) -> Remark {
        Remark {
            file: "a.c".into(),
            line,
            function: "f".into(),
            access: "read".into(),
            rule: rule.into(),
            detail: "why".into(),
            count: 1,
        }
    }

    #[test]
    fn remarks_are_sorted_by_line_and_counted() {
        let ordered = in_order(vec![
            remark(9, "barrier"),
            remark(2, "stack"),
            remark(9, "barrier"),
        ]);
        assert_eq!(ordered.len(), 2);
        assert_eq!(
            (ordered[0].line, ordered[1].line, ordered[1].count),
            (2, 9, 2)
        );
        let text = render(&ordered);
        assert!(text.contains("barrier        why, in f (x2)"), "{text}");
    }

    #[test]
    fn output_options_of_a_pasted_command_are_left_out() {
        let args: Vec<OsString> = ["-c", "-O3", "-o", "x.o", "-DX"]
            .iter()
            .map(OsString::from)
            .collect();
        assert_eq!(without_output(&args), ["-O3", "-DX"]);
    }

    #[test]
    fn a_header_is_not_the_file() {
        assert!(is_of("/src/dir/a.c", Path::new("dir/a.c")));
        assert!(is_of("a.c", Path::new("a.c")));
        assert!(!is_of("/src/dir/a.h", Path::new("a.c")));
        assert!(!is_of("/src/dir/ba.c", Path::new("a.c")));
    }

    #[test]
    fn unknown_fields_of_remarks_are_no_matter_and_nonsense_is_shown() {
        let line = r#"{"module":"m","function":"f","file":"a.c","line":3,"access":"read","rule":"r","detail":"d"}"#;
        assert_eq!(parse(line).unwrap()[0].line, 3);
        assert!(parse("oops").unwrap_err().to_string().contains("oops"));
    }
}
