//! `ame report FILE`: who was in whose way, where, and what it cost.

mod format;
pub mod html;
mod summary;
mod symbols;
mod text;
mod trace;

use anyhow::{Context, Result};
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  AME_LOG=bank.trace ./bank           run a program and write a trace
  ame report bank.trace               top conflicts with the source lines of both sides
  ame report bank.trace --top 3       only the worst
  ame report bank.trace --html r.html one page with a chart, for a browser
  ame report bank.trace --json        everything, for a program

Compile with -g for source lines. A trace whose process was killed is read as far as it goes.")]
pub struct Args {
    /// The trace that AME_LOG=FILE made a program write
    file: PathBuf,
    /// Print everything as JSON instead of text
    #[arg(long)]
    json: bool,
    /// Write one self-contained page with a chart to OUT (and print nothing else)
    #[arg(long, value_name = "OUT", conflicts_with = "json")]
    html: Option<PathBuf>,
    /// How many places each list shows in text and HTML
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
}

pub fn run(args: &Args) -> Result<()> {
    let name = args.file.display();
    let file = File::open(&args.file).with_context(|| {
        format!("cannot open {name}: run the program with AME_LOG={name} to write a trace")
    })?;
    let summary = trace::Reader::new(BufReader::new(file))
        .and_then(summary::summarise)
        .with_context(|| format!("cannot read {name}"))?;
    if let Some(out) = &args.html {
        std::fs::write(out, html::render(&summary, args.top))
            .with_context(|| format!("cannot write {}", out.display()))?;
        return Ok(());
    }
    let text = if args.json {
        let mut text = serde_json::to_string_pretty(&summary).context("cannot write JSON")?;
        text.push('\n');
        text
    } else {
        text::render(&summary, args.top)
    };
    crate::output::print(&text)
}
