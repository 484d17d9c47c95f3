//! The report for a terminal.

use super::format::{count, counted, share, sparkline, spread, time};
use super::summary::{Answer, ConflictSite, IrrevocableSite, Summary, Thread};
use super::symbols::Site;
use super::trace::{Domain, Object, Work};
use std::fmt::{self, Write};

/// Buckets of the time line.
const COLUMNS: usize = 60;

/// `top` limits each list of places.
pub fn render(summary: &Summary, top: usize) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_all(&mut out, summary, top);
    out
}

fn write_all(out: &mut String, summary: &Summary, top: usize) -> fmt::Result {
    header(out, summary)?;
    answers(out, summary)?;
    totals(out, summary)?;
    conflicts(out, summary, top)?;
    places(
        out,
        "Rollbacks: where the work was thrown away, by time lost",
        summary.aborts.iter().map(|abort| {
            let what = format!(
                "{} lost, {}, {}",
                time(abort.lost_ns),
                counted(abort.count, "time"),
                abort.cause
            );
            (what, &abort.site)
        }),
        top,
    )?;
    places(
        out,
        "What made transactions irrevocable",
        summary
            .irrevocable
            .iter()
            .map(|entry| (irrevocable(entry), &entry.site)),
        top,
    )?;
    domains(out, summary, top)?;
    threads(out, summary)?;
    time_line(out, summary)?;
    notes(out, summary)
}

fn header(out: &mut String, summary: &Summary) -> fmt::Result {
    match &summary.process {
        Some(process) => {
            write!(
                out,
                "{} (process {})",
                process.command.join(" "),
                process.pid
            )?;
        }
        None => write!(out, "unknown process")?,
    }
    writeln!(
        out,
        ": {} traced, {}, {}",
        time(summary.duration_ns),
        counted(summary.threads.len() as u64, "thread"),
        counted(summary.trace.records, "record")
    )?;
    if let Some(cut) = &summary.trace.cut_off {
        writeln!(
            out,
            "The trace was cut off: its last record, at offset {}, has only {}; everything \
             before it is counted.",
            cut.offset,
            counted(cut.bytes, "byte")
        )?;
    }
    Ok(())
}

/// How many answers are given: who wants more has the list of conflicts.
pub const ANSWERS: usize = 5;

/// The short answer for a program that an interpreter runs.
fn answers(out: &mut String, summary: &Summary) -> fmt::Result {
    if summary.answers.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nWhat holds it back")?;
    writeln!(out, "  {}", cost(summary))?;
    for (index, answer) in summary.answers.iter().take(ANSWERS).enumerate() {
        write!(out, "{:>3}. {} lost: ", index + 1, time(answer.lost_ns))?;
        writeln!(out, "{}", subject(answer))?;
        site(out, "       ", &answer.site)?;
        if answer.against() {
            writeln!(out, "       against {}", place(&answer.other))?;
        }
        if let Some(advice) = advice(&answer.object) {
            writeln!(out, "     > {advice}")?;
        }
    }
    Ok(())
}

/// What share of the time was lost, and how.
pub fn cost(summary: &Summary) -> String {
    let work = &summary.totals.work;
    format!(
        "Of {} in transactions {} ({}) were lost: {} by waiting, {} in work that was rolled back.",
        time(work.all_ns()),
        time(work.lost_ns()),
        share(work.lost_ns(), work.all_ns()),
        time(work.waiting_ns),
        time(work.aborted_ns)
    )
}

/// `dict, key 'n' of counts, and 3 more`.
pub fn subject(answer: &Answer) -> String {
    match answer.more {
        0 => what(&answer.object),
        more => format!("{}, and {} more", what(&answer.object), count(more)),
    }
}

/// `dict, key 'n' of counts`.
pub fn what(object: &Option<Object>) -> String {
    match object {
        Some(object) if object.part.is_empty() => object.kind.clone(),
        Some(object) => format!("{}, {}", object.kind, object.part),
        None => "unknown memory".into(),
    }
}

pub fn advice(object: &Option<Object>) -> Option<&str> {
    let advice = &object.as_ref()?.advice;
    (!advice.is_empty()).then_some(advice)
}

fn totals(out: &mut String, summary: &Summary) -> fmt::Result {
    let totals = &summary.totals;
    let work = &totals.work;
    let all = work.all_ns();
    let tries = work.commits.saturating_add(work.aborts);
    writeln!(out, "\nTotals of all threads")?;
    let mut row = |name: &str, number: &str, took: u64, more: &str| {
        let line = format!(
            "  {name:<12} {number:>14}  {:>9} {:>8}  {more}",
            time(took),
            share(took, all)
        );
        writeln!(out, "{}", line.trim_end())
    };
    row("committed", &count(work.commits), work.committed_ns, "")?;
    let causes: Vec<String> = totals
        .rollbacks
        .iter()
        .map(|(cause, number)| format!("{cause} {}", count(*number)))
        .collect();
    let mut rolled = format!("{} of all tries", share(work.aborts, tries));
    if !causes.is_empty() {
        rolled = format!("{rolled}; recorded: {}", causes.join(", "));
    }
    row("rolled back", &count(work.aborts), work.aborted_ns, &rolled)?;
    row("waiting", "", work.waiting_ns, "")?;
    writeln!(
        out,
        "  {} recorded, {} lost in them; {} inevitable, {} exclusive",
        counted(totals.conflicts, "conflict"),
        time(totals.conflict_lost_ns),
        count(totals.inevitable),
        count(totals.exclusive)
    )
}

fn conflicts(out: &mut String, summary: &Summary, top: usize) -> fmt::Result {
    writeln!(out, "\nConflicts, by time lost")?;
    if summary.conflicts.is_empty() {
        return writeln!(out, "  none");
    }
    let whole = whole(summary);
    for (index, conflict) in summary.conflicts.iter().take(top).enumerate() {
        writeln!(
            out,
            "{:>3}. {} lost ({}), {}, {}",
            index + 1,
            time(conflict.cost_ns()),
            share(conflict.cost_ns(), whole),
            counted(conflict.count, "time"),
            what_on(conflict)
        )?;
        if conflict.object.is_some() {
            writeln!(out, "       {}", what(&conflict.object))?;
        }
        site(out, "       ", &conflict.site)?;
        site(out, "    vs ", &conflict.other)?;
        writeln!(out, "       {}", outcomes(conflict))?;
    }
    left_out(out, summary.conflicts.len(), top)
}

/// `inevitable, 3 times: lock, acquired`.
pub fn irrevocable(entry: &IrrevocableSite) -> String {
    let mut text = format!("{}, {}", entry.what, counted(entry.count, "time"));
    if entry.object.is_some() {
        text = format!("{text}: {}", what(&entry.object));
    }
    text
}

/// What all conflicts have cost.
pub fn whole(summary: &Summary) -> u64 {
    let sum = |sum: u64, conflict: &ConflictSite| sum.saturating_add(conflict.cost_ns());
    summary.conflicts.iter().fold(0, sum)
}

/// `write of read on 3 granules`.
pub fn what_on(conflict: &ConflictSite) -> String {
    if conflict.granules == 0 {
        return conflict.access.into();
    }
    format!(
        "{} on {}",
        conflict.access,
        counted(conflict.granules, "granule")
    )
}

/// `waited 3, wounded the other 2, rolled back 1`, without what did not happen.
pub fn outcomes(conflict: &ConflictSite) -> String {
    let parts = [
        ("waited", conflict.waited),
        ("wounded the other", conflict.wounded_other),
        ("rolled back", conflict.rolled_back),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(_, number)| *number > 0)
        .map(|(name, number)| format!("{name} {}", count(*number)))
        .collect();
    let mut text = parts.join(", ");
    if conflict.rollbacks > 0 {
        let rollbacks = counted(conflict.rollbacks, "rollback");
        let thrown = time(conflict.thrown_away_ns);
        text = format!("{text}; {rollbacks} threw {thrown} of work away");
    }
    text
}

fn site(out: &mut String, lead: &str, site: &Site) -> fmt::Result {
    writeln!(out, "{lead}{}", place(site))?;
    if let Some(source) = &site.source {
        writeln!(out, "           {source}")?;
    }
    Ok(())
}

/// `bank.c:12 in transfer (inlined into worker)`.
pub fn place(site: &Site) -> String {
    let mut text = site.label();
    if site.file.is_some() {
        text = format!("{text} in {}", site.function);
    } else if let Some(module) = &site.module {
        if !text.starts_with(module.as_str()) {
            text = format!("{text} in {module}");
        }
    }
    if let Some(within) = &site.within {
        text = format!("{text} (in {within})");
    }
    if !site.inlined_into.is_empty() {
        text = format!("{text} (inlined into {})", site.inlined_into.join(", "));
    }
    text
}

fn places<'a>(
    out: &mut String,
    title: &str,
    entries: impl ExactSizeIterator<Item = (String, &'a Site)>,
    top: usize,
) -> fmt::Result {
    let length = entries.len();
    if length == 0 {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    for (index, (what, place)) in entries.take(top).enumerate() {
        writeln!(out, "{:>3}. {what}", index + 1)?;
        site(out, "       ", place)?;
    }
    left_out(out, length, top)
}

fn domains(out: &mut String, summary: &Summary, top: usize) -> fmt::Result {
    if summary.domains.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{DOMAINS}")?;
    for domain in summary.domains.iter().take(top) {
        writeln!(out, "  {}", domain.name)?;
        for line in of_domain(domain, top) {
            writeln!(out, "     {line}")?;
        }
    }
    left_out(out, summary.domains.len(), top)
}

pub const DOMAINS: &str = "Domains of extension modules, by entries";

/// How it was entered, and what serialised entries that were transactions.
pub fn of_domain(domain: &Domain, top: usize) -> Vec<String> {
    let mut lines = vec![format!(
        "held {}, {} after waiting ({}); given up in the middle {}",
        counted(domain.entries, "time"),
        count(domain.contended),
        time(domain.waiting_ns),
        counted(domain.given_up, "time"),
    )];
    if domain.trials + domain.elided + domain.serialised + domain.rolled_back != 0 {
        lines.push(format!(
            "{} elided, {} serialised, {}; worth it in {} of {}",
            count(domain.elided),
            count(domain.serialised),
            counted(domain.rolled_back, "rollback"),
            count(domain.won),
            counted(domain.trials, "trial"),
        ));
    }
    for reason in domain.reasons.iter().take(top) {
        lines.push(format!(
            "{} {}: {}",
            counted(reason.count, "time"),
            reason.entry,
            reason.why
        ));
    }
    lines
}

fn left_out(out: &mut String, length: usize, top: usize) -> fmt::Result {
    if length > top {
        writeln!(
            out,
            "     ... and {} more (--top {length} shows all)",
            length - top
        )?;
    }
    Ok(())
}

fn threads(out: &mut String, summary: &Summary) -> fmt::Result {
    if summary.threads.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nThreads")?;
    writeln!(
        out,
        "  {:>6} {:>14} {:>12} {:>13} {:>13} {:>13}",
        "thread", "commits", "rollbacks", "committed", "rolled back", "waiting"
    )?;
    for thread in &summary.threads {
        let work = &thread.work;
        writeln!(
            out,
            "  {:>6} {:>14} {:>12} {:>13} {:>13} {:>13}{}",
            thread.thread,
            count(work.commits),
            count(work.aborts),
            time(work.committed_ns),
            time(work.aborted_ns),
            time(work.waiting_ns),
            if thread.ended {
                ""
            } else {
                "  (no totals: sum of its slices)"
            }
        )?;
    }
    Ok(())
}

fn time_line(out: &mut String, summary: &Summary) -> fmt::Result {
    if summary
        .threads
        .iter()
        .all(|thread| thread.slices.is_empty())
    {
        return Ok(());
    }
    writeln!(
        out,
        "\nTime line: share of each {} spent in transactions that committed, and lost",
        time(summary.duration_ns / COLUMNS as u64)
    )?;
    for thread in summary
        .threads
        .iter()
        .filter(|thread| !thread.slices.is_empty())
    {
        let (committed, lost) = lines(thread, summary.duration_ns);
        writeln!(out, "  {:>6}  committed |{committed}|", thread.thread)?;
        writeln!(out, "  {:>6}  lost      |{lost}|", "")?;
    }
    Ok(())
}

fn lines(thread: &Thread, duration: u64) -> (String, String) {
    let width = duration.max(1) as f64 / COLUMNS as f64;
    let line = |amount: &dyn Fn(&Work) -> u64| {
        let spans = thread
            .slices
            .iter()
            .map(|slice| (slice.start, slice.length, amount(&slice.work)));
        let values: Vec<f64> = spread(spans, duration, COLUMNS)
            .iter()
            .map(|sum| sum / width)
            .collect();
        sparkline(&values)
    };
    (line(&|work: &Work| work.committed_ns), line(&Work::lost_ns))
}

fn notes(out: &mut String, summary: &Summary) -> fmt::Result {
    if summary.trace.unknown_records > 0 {
        writeln!(
            out,
            "\n{} of a later version left out; use the `ame` that came with the runtime.",
            counted(summary.trace.unknown_records, "record")
        )?;
    }
    if !summary.notes.is_empty() {
        writeln!(out, "\nNo names or lines from these files")?;
        for note in &summary.notes {
            writeln!(out, "  {note}")?;
        }
    }
    let bare = |site: &Site| site.file.is_none() && site.module.is_some();
    if summary
        .conflicts
        .iter()
        .any(|conflict| bare(&conflict.site) || bare(&conflict.other))
    {
        writeln!(
            out,
            "\nPlaces without a line have no debug information: compile with -g."
        )?;
    }
    Ok(())
}
