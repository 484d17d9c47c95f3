//! The report as one page that needs nothing else.

use super::report::{Ame, Report};
use super::text::{access, construct, modules, sentence, variable, verdict};
use crate::report::html::Escaped;
use std::fmt::{self, Write};

pub fn page(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = render(&mut out, report);
    out
}

/// One finding: where, what, and what Ame does about it.
struct Row {
    file: String,
    line: u32,
    what: String,
    ame: Ame,
}

fn render(out: &mut String, report: &Report) -> fmt::Result {
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>What in {title} relies on the GIL</title>\n<style>\n{style}</style></head><body>\n\
         <h1>{title}</h1>\n<div class=\"dim\">{python}",
        title = Escaped(&report.package),
        style = include_str!("../../report/page.css"),
        python = Escaped(&report.python),
    )?;
    for (init, names) in modules(report) {
        write!(out, "; {init}: {}", Escaped(&names.join(", ")))?;
    }
    writeln!(out, "</div>\n<p><b>{}</b></p>", Escaped(&verdict(report)))?;
    let state = |kinds: &[&str]| -> Vec<Row> {
        let chosen = report.state.iter().filter(|s| kinds.contains(&s.kind));
        chosen
            .map(|s| Row {
                file: s.file.clone(),
                line: s.line,
                what: variable(s),
                ame: s.ame,
            })
            .collect()
    };
    let held = report.held.iter().map(|h| Row {
        file: h.file.clone(),
        line: h.line,
        what: sentence(h),
        ame: h.ame,
    });
    let references = report.references.iter().map(|r| Row {
        file: r.file.clone(),
        line: r.line,
        what: format!("{} in {}", access(r), r.function),
        ame: r.ame,
    });
    let constructs = report.unsupported.iter().map(|u| Row {
        file: u.file.clone(),
        line: u.line,
        what: construct(u),
        ame: u.ame,
    });
    let notes = report.notes.iter().map(|n| Row {
        file: n.file.clone(),
        line: n.line,
        what: n.text.clone(),
        ame: Ame::Fine,
    });
    for (title, rows) in [
        (
            "C variables that are written at run time",
            state(&["state", "lazy"]),
        ),
        ("Held across calls to Python", held.collect()),
        ("References and looks into containers", references.collect()),
        ("Other constructs", constructs.collect()),
        ("Good to know", notes.collect()),
        ("Fine", state(&["import", "thread_local"])),
    ] {
        section(out, title, &rows)?;
    }
    writeln!(out, "</body></html>")
}

fn section(out: &mut String, title: &str, rows: &[Row]) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<h2>{title}: {}</h2>\n<table><tr><th>where</th><th>what</th><th>Ame</th></tr>",
        rows.len()
    )?;
    for row in rows {
        let words = match row.ame {
            Ame::Serialised => "serialised by the domain",
            Ame::MadeSafe => "made safe by a reference",
            Ame::AsUnderAGil => "as under a GIL: others may enter during the call",
            Ame::Attention => "<b class=\"warn\">needs your attention</b>",
            Ame::Fine => "fine",
        };
        writeln!(
            out,
            "<tr><td><code>{}:{}</code></td><td>{}</td><td>{words}</td></tr>",
            Escaped(&row.file),
            row.line,
            Escaped(&row.what)
        )?;
    }
    writeln!(out, "</table>")
}
