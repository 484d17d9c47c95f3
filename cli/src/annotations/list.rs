//! `ame annotations list`.

use ame_annotations::Sets;
use anyhow::{Context, Result};
use serde::Serialize;
use std::path::PathBuf;

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
}

pub fn run(args: &Args) -> Result<()> {
    let shipped = Sets::shipped().map(PathBuf::from);
    let rows: Vec<Row> = shipped
        .chain(args.sets.iter().cloned())
        .map(row)
        .collect::<Result<_>>()?;
    let text = if args.json {
        serde_json::to_string_pretty(&rows).context("cannot write JSON")? + "\n"
    } else {
        rows.iter().map(line).collect::<String>()
            + "Use one with -fame-annotations=NAME, or a file with -fame-annotations=PATH.\n"
    };
    crate::output::print(&text)
}

fn row(path: PathBuf) -> Result<Row> {
    let set = Sets::load(&[path]).map_err(|error| anyhow::anyhow!("{error}"))?;
    let name = set.names().join(", ");
    Ok(Row {
        always: name == "libc",
        name,
        functions: set.functions().count(),
        structs: set.structures().count(),
        fields: set.structures().map(|(_, rule)| rule.fields.len()).sum(),
    })
}

fn line(row: &Row) -> String {
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
