//! The report as one page that needs nothing else: styles and the chart are in it.

use super::format::{count, counted, share, spread, time};
use super::summary::{Summary, Thread};
use super::symbols::Site;
use super::text::{
    advice, cost, irrevocable, of_domain, outcomes, place, subject, what, what_on, whole, ANSWERS,
    DOMAINS,
};
use super::trace::Work;
use std::fmt::{self, Display, Write};

/// Buckets of the chart's time axis.
const COLUMNS: usize = 160;
/// Geometry of the chart, in SVG units.
const LEFT: f64 = 70.0;
const WIDTH: f64 = 880.0;
const ROW: f64 = 46.0;
const GAP: f64 = 8.0;

pub fn render(summary: &Summary, top: usize) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = page(&mut out, summary, top);
    out
}

/// Text as HTML shows it.
pub struct Escaped<'a>(pub &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

fn page(out: &mut String, summary: &Summary, top: usize) -> fmt::Result {
    let command = match &summary.process {
        Some(process) => process.command.join(" "),
        None => "unknown process".into(),
    };
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Conflicts of {title}</title>\n<style>\n{style}</style></head><body>\n\
         <h1>{title}</h1>\n<div class=\"dim\">",
        title = Escaped(&command),
        style = include_str!("page.css"),
    )?;
    if let Some(process) = &summary.process {
        write!(out, "process {}, ", process.pid)?;
    }
    writeln!(
        out,
        "{} traced, {}, {}</div>",
        time(summary.duration_ns),
        counted(summary.threads.len() as u64, "thread"),
        counted(summary.trace.records, "record")
    )?;
    if let Some(cut) = &summary.trace.cut_off {
        writeln!(
            out,
            "<p class=\"warn\">The trace was cut off: its last record, at offset {}, has only {}; \
             everything before it is counted.</p>",
            cut.offset,
            counted(cut.bytes, "byte")
        )?;
    }
    answers(out, summary)?;
    tiles(out, summary)?;
    chart(out, summary)?;
    conflicts(out, summary, top)?;
    let aborts = summary.aborts.iter().map(|abort| {
        let what = format!("{}, {}", counted(abort.count, "time"), abort.cause);
        (abort.lost_ns, what, &abort.site)
    });
    places(
        out,
        "Rollbacks: where the work was thrown away",
        aborts,
        top,
    )?;
    let entries = summary
        .irrevocable
        .iter()
        .map(|entry| (0, irrevocable(entry), &entry.site));
    places(out, "What made transactions irrevocable", entries, top)?;
    domains(out, summary, top)?;
    threads(out, summary)?;
    if !summary.notes.is_empty() {
        writeln!(
            out,
            "<h2>No names or lines from these files</h2><ul class=\"dim\">"
        )?;
        for note in &summary.notes {
            writeln!(out, "<li>{}</li>", Escaped(note))?;
        }
        writeln!(out, "</ul>")?;
    }
    writeln!(out, "</body></html>")
}

/// The short answer for a program that an interpreter runs.
fn answers(out: &mut String, summary: &Summary) -> fmt::Result {
    let Some(worst) = summary.answers.first() else {
        return Ok(());
    };
    writeln!(
        out,
        "<h2>What holds it back</h2><p>{}</p><ol>",
        cost(summary)
    )?;
    for answer in summary.answers.iter().take(ANSWERS) {
        writeln!(
            out,
            "<li>{} lost: <b>{}</b>",
            time(answer.lost_ns),
            Escaped(&subject(answer))
        )?;
        bar(out, answer.lost_ns, worst.lost_ns)?;
        site(out, &answer.site)?;
        if answer.against() {
            writeln!(out, "<div class=\"dim\">against</div>")?;
            site(out, &answer.other)?;
        }
        if let Some(advice) = advice(&answer.object) {
            writeln!(out, "<div class=\"advice\">{}</div>", Escaped(advice))?;
        }
        writeln!(out, "</li>")?;
    }
    writeln!(out, "</ol>")
}

fn tiles(out: &mut String, summary: &Summary) -> fmt::Result {
    let totals = &summary.totals;
    let work = &totals.work;
    let all = work.all_ns();
    writeln!(out, "<div class=\"tiles\">")?;
    let mut tile = |name: &str, value: String, more: String| {
        writeln!(
            out,
            "<div class=\"tile\"><span class=\"dim\">{name}</span><b>{value}</b>{more}</div>"
        )
    };
    let part = |ns: u64| format!("{} ({})", time(ns), share(ns, all));
    tile("committed", count(work.commits), part(work.committed_ns))?;
    tile("rolled back", count(work.aborts), part(work.aborted_ns))?;
    tile(
        "waiting",
        time(work.waiting_ns),
        share(work.waiting_ns, all),
    )?;
    tile(
        "conflicts",
        count(totals.conflicts),
        format!("{} lost", time(totals.conflict_lost_ns)),
    )?;
    tile(
        "irrevocable",
        count(totals.inevitable + totals.exclusive),
        format!(
            "{} inevitable, {} exclusive",
            count(totals.inevitable),
            count(totals.exclusive)
        ),
    )?;
    writeln!(out, "</div>")
}

/// One row per thread: in each bucket of time a stack of committed, rolled back and waiting.
fn chart(out: &mut String, summary: &Summary) -> fmt::Result {
    let rows: Vec<&Thread> = summary
        .threads
        .iter()
        .filter(|thread| !thread.slices.is_empty())
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let height = rows.len() as f64 * (ROW + GAP) + 24.0;
    writeln!(
        out,
        "<h2>Time line <span class=\"dim key\"><i class=\"good\"></i>committed\
         <i class=\"lost\"></i>rolled back<i class=\"wait\"></i>waiting</span></h2>\n\
         <svg viewBox=\"0 0 {} {height}\" role=\"img\" aria-label=\"Time line per thread\">",
        LEFT + WIDTH
    )?;
    for (index, thread) in rows.iter().enumerate() {
        let top = index as f64 * (ROW + GAP);
        writeln!(
            out,
            "<text x=\"0\" y=\"{:.1}\">thread {}</text>\
             <rect class=\"rest\" x=\"{LEFT}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{ROW}\"/>",
            top + ROW / 2.0 + 4.0,
            thread.thread
        )?;
        layers(out, thread, summary.duration_ns, top)?;
    }
    for tick in 0..=4u64 {
        let anchor = ["start", "middle", "middle", "middle", "end"][tick as usize];
        writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            LEFT + WIDTH * tick as f64 / 4.0,
            height - 6.0,
            time(summary.duration_ns / 4 * tick)
        )?;
    }
    writeln!(out, "</svg>")
}

fn layers(out: &mut String, thread: &Thread, duration: u64, top: f64) -> fmt::Result {
    let bucket_ns = duration.max(1) as f64 / COLUMNS as f64;
    let bucket_width = WIDTH / COLUMNS as f64;
    type Amount = fn(&Work) -> u64;
    let kinds: [(&str, &str, Amount); 3] = [
        ("good", "committed", |work| work.committed_ns),
        ("lost", "rolled back", |work| work.aborted_ns),
        ("wait", "waiting", |work| work.waiting_ns),
    ];
    let mut floor = vec![0.0f64; COLUMNS];
    for (class, name, amount) in kinds {
        let spans = thread
            .slices
            .iter()
            .map(|slice| (slice.start, slice.length, amount(&slice.work)));
        let mut path = String::new();
        for (bucket, sum) in spread(spans, duration, COLUMNS).into_iter().enumerate() {
            let height = (sum / bucket_ns).min(1.0 - floor[bucket]).max(0.0);
            if height <= 0.0 {
                continue;
            }
            let x = LEFT + bucket as f64 * bucket_width;
            let bottom = top + ROW * (1.0 - floor[bucket]);
            write!(
                path,
                "M{x:.1} {bottom:.1}h{bucket_width:.2}v{:.2}h-{bucket_width:.2}z",
                -ROW * height
            )?;
            floor[bucket] += height;
        }
        if !path.is_empty() {
            writeln!(
                out,
                "<path class=\"{class}\" d=\"{path}\"><title>thread {}: {} {name}</title></path>",
                thread.thread,
                time(amount(&thread.work))
            )?;
        }
    }
    Ok(())
}

fn conflicts(out: &mut String, summary: &Summary, top: usize) -> fmt::Result {
    writeln!(out, "<h2>Conflicts, by time lost</h2>")?;
    if summary.conflicts.is_empty() {
        return writeln!(out, "<p>None.</p>");
    }
    let whole = whole(summary);
    let worst = summary.conflicts[0].cost_ns();
    writeln!(out, "<ol>")?;
    for conflict in summary.conflicts.iter().take(top) {
        writeln!(
            out,
            "<li>{} lost ({}), {}, {}",
            time(conflict.cost_ns()),
            share(conflict.cost_ns(), whole),
            counted(conflict.count, "time"),
            what_on(conflict)
        )?;
        if conflict.object.is_some() {
            writeln!(out, "<b>{}</b>", Escaped(&what(&conflict.object)))?;
        }
        bar(out, conflict.cost_ns(), worst)?;
        site(out, &conflict.site)?;
        writeln!(out, "<div class=\"dim\">against</div>")?;
        site(out, &conflict.other)?;
        writeln!(out, "<div class=\"dim\">{}</div></li>", outcomes(conflict))?;
    }
    writeln!(out, "</ol>")?;
    left_out(out, summary.conflicts.len(), top)
}

fn bar(out: &mut String, part: u64, whole: u64) -> fmt::Result {
    let width = if whole == 0 {
        0.0
    } else {
        100.0 * part as f64 / whole as f64
    };
    writeln!(out, "<div class=\"bar\" style=\"width:{width:.1}%\"></div>")
}

fn site(out: &mut String, site: &Site) -> fmt::Result {
    writeln!(out, "<div class=\"place\">{}</div>", Escaped(&place(site)))?;
    if let Some(source) = &site.source {
        writeln!(out, "<code>{}</code>", Escaped(source))?;
    }
    Ok(())
}

/// Time lost (0: not a matter of time), what happened, where.
fn places<'a>(
    out: &mut String,
    title: &str,
    entries: impl ExactSizeIterator<Item = (u64, String, &'a Site)>,
    top: usize,
) -> fmt::Result {
    let length = entries.len();
    if length == 0 {
        return Ok(());
    }
    writeln!(out, "<h2>{title}</h2><ol>")?;
    for (lost_ns, what, place) in entries.take(top) {
        write!(out, "<li>")?;
        if lost_ns > 0 {
            write!(out, "{} lost, ", time(lost_ns))?;
        }
        writeln!(out, "{}", Escaped(&what))?;
        site(out, place)?;
        writeln!(out, "</li>")?;
    }
    writeln!(out, "</ol>")?;
    left_out(out, length, top)
}

fn domains(out: &mut String, summary: &Summary, top: usize) -> fmt::Result {
    if summary.domains.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h2>{DOMAINS}</h2><ol>")?;
    for domain in summary.domains.iter().take(top) {
        write!(out, "<li>{}", Escaped(&domain.name))?;
        for line in of_domain(domain, top) {
            write!(out, "<br>{}", Escaped(&line))?;
        }
        writeln!(out, "</li>")?;
    }
    writeln!(out, "</ol>")?;
    left_out(out, summary.domains.len(), top)
}

fn left_out(out: &mut String, length: usize, top: usize) -> fmt::Result {
    if length > top {
        writeln!(
            out,
            "<p class=\"dim\">and {} more (--top {length} shows all)</p>",
            length - top
        )?;
    }
    Ok(())
}

fn threads(out: &mut String, summary: &Summary) -> fmt::Result {
    if summary.threads.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<h2>Threads</h2><table><tr><th>thread</th><th>commits</th><th>rollbacks</th>\
         <th>committed</th><th>rolled back</th><th>waiting</th></tr>"
    )?;
    for thread in &summary.threads {
        let work = &thread.work;
        writeln!(
            out,
            "<tr><td>{}{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            thread.thread,
            if thread.ended { "" } else { " (not ended)" },
            count(work.commits),
            count(work.aborts),
            time(work.committed_ns),
            time(work.aborted_ns),
            time(work.waiting_ns)
        )?;
    }
    writeln!(out, "</table>")
}
