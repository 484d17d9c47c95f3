//! `ame annotations list`.

use ame_annotations::Sets;
use anyhow::{Context, Result};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Sets of your own to list, too
    sets: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    /// Used for every file, without being asked for.
    always: bool,
    functions: usize,
    structs: usize,
    fields: usize,
    /// Why the set cannot be loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let shipped = Sets::shipped().map(PathBuf::from);
    let rows: Vec<Row> = shipped.chain(args.sets.iter().cloned()).map(row).collect();
    let text = if args.json {
        serde_json::to_string_pretty(&rows).context("cannot write JSON")? + "\n"
    } else {
        rows.iter().map(line).collect::<String>()
            + "Use one with -fame-annotations=NAME, or a file with -fame-annotations=PATH.\n"
    };
    crate::output::print(&text)?;
    let broken = rows.iter().any(|row| row.problem.is_some());
    Ok(if broken {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn row(path: PathBuf) -> Row {
    let name = path.display().to_string();
    match Sets::load(&[path]) {
        Ok(set) => Row {
            always: name == "libc",
            name,
            functions: set.functions().count(),
            structs: set.structures().count(),
            fields: set.structures().map(|(_, rule)| rule.fields.len()).sum(),
            problem: None,
        },
        Err(error) => Row {
            always: false,
            name,
            functions: 0,
            structs: 0,
            fields: 0,
            problem: Some(error.to_string()),
        },
    }
}

fn line(row: &Row) -> String {
    if let Some(problem) = &row.problem {
        return format!("{:<16} cannot be loaded:\n{problem}\n", row.name);
    }
    format!(
        "{:<16} {:>5} functions {:>5} structs {:>5} fields{}\n",
        row.name,
        row.functions,
        row.structs,
        row.fields,
        if row.always {
            "   (always applies)"
        } else {
            ""
        }
    )
}
