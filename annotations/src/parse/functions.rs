//! `[function.NAME]` and `[[functions]]`.

use super::kinds::{alignment, function_kind, memory_kind};
use super::{in_file_order, Parser, FUNCTION_KEYS};
use crate::function::{FunctionKind, FunctionRule, Range};
use crate::toml_view::{Reader, Value};
use std::ops::Range as Span;
use toml::de::DeTable;

impl Parser {
    pub(super) fn function_table(&mut self, r: &mut Reader, value: &Value<'_>) {
        let Some(table) = r.table(value, "`function`") else {
            return;
        };
        for (key, value) in in_file_order(table) {
            let what = format!("[function.{}]", key.get_ref());
            if let Some(entries) = r.table(value, &what) {
                let rule = self.function_rule(r, entries, &what, &[]);
                self.add_function(r, key.get_ref(), key.span(), &rule);
            }
        }
    }

    pub(super) fn function_groups(&mut self, r: &mut Reader, value: &Value<'_>) {
        let Some(groups) = r.array(value, "`functions`") else {
            return;
        };
        for group in groups {
            let Some(entries) = r.table(group, "[[functions]]") else {
                continue;
            };
            let rule = self.function_rule(r, entries, "[[functions]]", &["names"]);
            match entries.get("names") {
                Some(names) => {
                    for (name, span) in r.strings(names, "`names`") {
                        self.add_function(r, &name, span, &rule);
                    }
                }
                None => r.report(&group.span(), "[[functions]] without `names`"),
            }
        }
    }

    fn function_rule(
        &mut self,
        r: &mut Reader,
        table: &DeTable<'_>,
        place: &str,
        also: &[&str],
    ) -> FunctionRule {
        let mut rule = FunctionRule {
            kind: FunctionKind::Normal,
            replace: None,
            replace_in_clones: true,
            replace_pointers: true,
            reads: Vec::new(),
            writes: Vec::new(),
            accesses: None,
            returns: None,
            align: None,
            polls: true,
            quiet: false,
            allocates: false,
            declared: true,
            origin: self.origin(0..0, None),
        };
        let mut reason = None;
        for (key, value) in in_file_order(table) {
            let what = format!("`{}`", key.get_ref());
            match &**key.get_ref() {
                "kind" => {
                    if let Some(kind) = function_kind(r, value) {
                        rule.kind = kind;
                    }
                }
                "instrument" => match r.boolean(value, &what) {
                    Some(false) if !table.contains_key("kind") => rule.kind = FunctionKind::Safe,
                    Some(false) => r.report(
                        &key.span(),
                        "`instrument = false` is another word for kind = \"safe\": give one",
                    ),
                    _ => {}
                },
                "polls" => {
                    if let Some(polls) = r.boolean(value, &what) {
                        rule.polls = polls;
                    }
                }
                "quiet" => rule.quiet |= r.boolean(value, &what) == Some(true),
                "allocates" => {
                    if r.boolean(value, &what) == Some(true) {
                        (rule.allocates, rule.quiet) = (true, true);
                    }
                }
                "replace_in_clones" => {
                    if let Some(replace) = r.boolean(value, &what) {
                        rule.replace_in_clones = replace;
                    }
                }
                "replace_pointers" => {
                    if let Some(replace) = r.boolean(value, &what) {
                        rule.replace_pointers = replace;
                    }
                }
                "declared" => {
                    if let Some(declared) = r.boolean(value, &what) {
                        rule.declared = declared;
                    }
                }
                "replace" => rule.replace = r.string(value, &what).map(str::to_owned),
                "reads" => rule.reads = ranges(r, value, &what),
                "writes" => rule.writes = ranges(r, value, &what),
                "accesses" => rule.accesses = memory_kind(r, value, &what),
                "returns" => rule.returns = memory_kind(r, value, &what),
                "align" => rule.align = alignment(r, value, &what),
                "reason" => reason = r.string(value, &what),
                other if also.contains(&other) => {}
                _ => {
                    let known: Vec<&str> = also.iter().chain(&FUNCTION_KEYS).copied().collect();
                    r.unknown_key(key, place, &known);
                }
            }
        }
        rule.origin = self.origin(0..0, reason);
        rule
    }

    fn add_function(&mut self, r: &mut Reader, name: &str, span: Span<usize>, rule: &FunctionRule) {
        if let Some(line) = self.seen_functions.get(name) {
            r.report_with_help(
                &span,
                format!("function `{name}` has a rule already, in line {line}"),
                "keep one of the two".into(),
            );
            return;
        }
        let line = self.set.source.line(span.start);
        self.seen_functions.insert(name.to_owned(), line);
        let mut rule = rule.clone();
        rule.origin.span = span;
        // In a group, `*` in the replacement stands for the function's own name.
        rule.replace = rule.replace.map(|symbol| symbol.replace('*', name));
        self.set.functions.push((name.to_owned(), rule));
    }
}

fn ranges(r: &mut Reader, value: &Value<'_>, what: &str) -> Vec<Range> {
    let mut all = Vec::new();
    for (text, span) in r.strings(value, what) {
        match Range::parse(&text) {
            Ok(range) => all.push(range),
            Err(problem) => r.report_with_help(
                &span,
                format!("{what}: {problem}"),
                "\"0, 2\": argument 0 points to as many bytes as argument 2 says; also \
                 \"0, 16 bytes\", \"0, 1*2\", \"0, 2*4 bytes\", \"0, string\", \"0, string 2\""
                    .into(),
            ),
        }
    }
    all
}
