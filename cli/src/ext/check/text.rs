//! The report as a page of text.

use super::report::{Ame, Borrowed, Carried, Construct, Report, State};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Places that one line names before it says how many more there are.
const SHOWN: usize = 6;

pub fn page(report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}, {}", report.package, report.python);
    for (init, names) in modules(report) {
        let _ = writeln!(out, "  {init}: {}", shortened(&names, SHOWN));
    }
    state(&mut out, report);
    held(&mut out, report);
    references(&mut out, report);
    unsupported(&mut out, report);
    if !report.notes.is_empty() {
        out += "\nGood to know\n";
        for note in &report.notes {
            let _ = writeln!(out, "  {}:{}  {}", note.file, note.line, note.text);
        }
    }
    let _ = writeln!(out, "\n{}", verdict(report));
    out
}

/// How many modules are initialised in which way.
pub fn modules(report: &Report) -> BTreeMap<String, Vec<String>> {
    let mut by_init: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for module in &report.modules {
        let init = format!("{} initialisation", module.init);
        by_init.entry(init).or_default().push(module.name.clone());
    }
    by_init
}

/// One sentence on the whole.
pub fn verdict(report: &Report) -> String {
    match report.summary["attention"] {
        0 => "Nothing needs your attention: with a domain of its own it works as it does under the GIL.".into(),
        1 => "One thing needs your attention, see above; the rest works as it does under the GIL.".into(),
        n => format!("{n} things need your attention, see above; the rest works as it does under the GIL."),
    }
}

fn shortened(names: &[String], most: usize) -> String {
    let shown = names[..names.len().min(most)].join(", ");
    match names.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn state(out: &mut String, report: &Report) {
    let of = |kinds: &[&str]| -> Vec<&State> {
        report
            .state
            .iter()
            .filter(|s| kinds.contains(&s.kind))
            .collect()
    };
    let shared = of(&["state", "lazy"]);
    if !shared.is_empty() {
        let lazy = shared.iter().filter(|s| s.kind == "lazy").count();
        let _ = write!(
            out,
            "\nC variables that are written at run time: {}",
            shared.len()
        );
        if lazy > 0 {
            let _ = write!(out, ", {lazy} of them pointers filled when first needed");
        }
        out.push_str("\n  serialised: the domain is held while code of the extension runs\n");
        let mut file = "";
        for each in &shared {
            if each.file != file {
                file = &each.file;
                let _ = writeln!(out, "  {file}");
            }
            let _ = writeln!(out, "  {:>6}  {}", each.line, variable(each));
        }
    }
    for (kind, what) in [
        ("import", "written only while the module is imported"),
        ("thread_local", "thread-local: each thread has its own"),
    ] {
        let names: Vec<String> = of(&[kind]).iter().map(|s| s.name.clone()).collect();
        if !names.is_empty() {
            let _ = writeln!(out, "\nFine, {what}: {}", names.len());
            let _ = writeln!(out, "  {}", shortened(&names, 12));
        }
    }
}

/// `NyGraph * GRAPH_PTR, written by create_nygraph (186)`.
pub fn variable(state: &State) -> String {
    let mut text = format!("{} {}", state.ty, state.name);
    if let Some(function) = &state.local_to {
        let _ = write!(text, " (in {function})");
    }
    let places: Vec<String> = state
        .writers
        .iter()
        .map(|place| match place.file == state.file {
            true => format!("{} ({})", place.function, place.line),
            false => format!("{} ({}:{})", place.function, place.file, place.line),
        })
        .collect();
    if !places.is_empty() {
        let _ = write!(text, ", written by {}", shortened(&places, SHOWN));
    }
    if places.is_empty() {
        let calls: Vec<String> = state
            .passed
            .iter()
            .map(|p| format!("{} ({})", p.to, p.place.line))
            .collect();
        let _ = write!(text, ", address given to {}", shortened(&calls, SHOWN));
    }
    text
}

fn held(out: &mut String, report: &Report) {
    if report.held.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nHeld across calls to Python: {}", report.held.len());
    out.push_str("  as under a GIL: if that call runs Python code or waits, other threads may enter meanwhile\n");
    let mut file = "";
    for each in &report.held {
        if each.file != file {
            file = &each.file;
            let _ = writeln!(out, "  {file}");
        }
        let _ = writeln!(out, "  {:>6}  {}", each.line, sentence(each));
    }
}

pub fn sentence(held: &Carried) -> String {
    let call = match held.call.name == held.call.runs {
        true => held.call.name.clone(),
        false => format!("{}, which comes to {}", held.call.name, held.call.runs),
    };
    let (read, at, then) = (held.read, held.call.line, held.then);
    let memory = &held.memory;
    if held.way == "callback" {
        return format!(
            "{}: {memory} set at {read} for a callback, which reads it at {then}; {call} at {at} comes in between",
            held.function
        );
    }
    let rest = match held.way.as_str() {
        "pointer" => format!("followed at {then}"),
        "drop" => format!("changed at {then}: others can see what was dropped"),
        _ => format!("written at {then}"),
    };
    format!(
        "{}: {memory} read at {read}, {call} at {at}, {rest}",
        held.function
    )
}

fn references(out: &mut String, report: &Report) {
    for (ame, head, what) in [
        (
            Ame::MadeSafe,
            "Borrowed references from containers that others may change",
            "made safe: a reference is held until the extension is left",
        ),
        (
            Ame::Attention,
            "Looks into the memory of containers",
            "needs your attention: take the items by function, or a copy (PyList_AsTuple, PyList_GetItemRef)",
        ),
    ] {
        let found: Vec<&Borrowed> = report.references.iter().filter(|r| r.ame == ame).collect();
        if found.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n{head}: {}\n  {what}", found.len());
        let mut groups: BTreeMap<(String, &str), Vec<String>> = BTreeMap::new();
        for each in found {
            let place = format!("{} ({})", each.line, each.function);
            groups.entry((access(each), &each.file)).or_default().push(place);
        }
        for ((access, file), places) in groups {
            let _ = writeln!(out, "  {access}, {file}: {}", shortened(&places, SHOWN));
        }
    }
}

/// What is done, in words.
pub fn access(borrowed: &Borrowed) -> String {
    if !borrowed.api.is_empty() {
        return borrowed.api.clone();
    }
    let container = &borrowed.container;
    match borrowed.way.as_str() {
        "element" => format!("an element read from a {container}'s memory"),
        "store" => format!("a store into a {container}'s memory"),
        "pointer" => format!("a pointer into a {container}'s memory"),
        _ => format!("a field of a {container}'s struct"),
    }
}

fn unsupported(out: &mut String, report: &Report) {
    if report.unsupported.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nOther constructs: {}", report.unsupported.len());
    for each in &report.unsupported {
        let _ = writeln!(out, "  {}:{}  {}", each.file, each.line, construct(each));
    }
}

pub fn construct(found: &Construct) -> String {
    let detail = &found.detail;
    match found.construct.as_str() {
        "assembly" => format!(
            "inline assembly in {} ({}): right while the domain is held; a transaction runs alone there",
            found.function,
            cut(detail)
        ),
        "setjmp" | "longjmp" => format!(
            "{detail} in {}: right while the domain is held, as long as it does not leave an entry",
            found.function
        ),
        "varargs" => format!(
            "{detail} takes any number of arguments and its address is given away: called from outside it \
             does not take the domain; needs your attention"
        ),
        "member" => format!(
            "Python code may replace the member {detail}, without the domain: make it read-only, or a getset; \
             needs your attention"
        ),
        _ => format!("{} starts a thread ({detail}), which works without the domain as without a GIL", found.function),
    }
}

fn cut(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
