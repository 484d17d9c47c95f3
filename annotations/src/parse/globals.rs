//! `[global]` and `[[globals]]`.

use super::kinds::field_kind;
use super::{in_file_order, Parser};
use crate::kind::FieldKind;
use crate::sets::GlobalRule;
use crate::toml_view::{Reader, Value};
use std::ops::Range as Span;

impl Parser {
    pub(super) fn global_table(&mut self, r: &mut Reader, value: &Value<'_>) {
        let Some(table) = r.table(value, "`global`") else {
            return;
        };
        for (key, value) in in_file_order(table) {
            let what = format!("global `{}`", key.get_ref());
            if let Some(kind) = field_kind(r, value, &what) {
                self.add_global(r, key.get_ref(), key.span(), kind, None);
            }
        }
    }

    pub(super) fn global_groups(&mut self, r: &mut Reader, value: &Value<'_>) {
        let Some(groups) = r.array(value, "`globals`") else {
            return;
        };
        for group in groups {
            let Some(table) = r.table(group, "[[globals]]") else {
                continue;
            };
            let (mut kind, mut names, mut reason) = (None, Vec::new(), None);
            for (key, value) in in_file_order(table) {
                match &**key.get_ref() {
                    "kind" => kind = field_kind(r, value, "`kind` of [[globals]]"),
                    "names" => names = r.strings(value, "`names`"),
                    "reason" => reason = r.string(value, "`reason`"),
                    _ => r.unknown_key(key, "[[globals]]", &["kind", "names", "reason"]),
                }
            }
            if names.is_empty() || !table.contains_key("kind") {
                r.report(&group.span(), "[[globals]] needs `kind` and `names`");
            }
            for (name, span) in names {
                if let Some(kind) = kind {
                    self.add_global(r, &name, span, kind, reason);
                }
            }
        }
    }

    fn add_global(
        &mut self,
        r: &mut Reader,
        name: &str,
        span: Span<usize>,
        kind: Option<FieldKind>,
        reason: Option<&str>,
    ) {
        if let Some(line) = self.seen_globals.get(name) {
            r.report_with_help(
                &span,
                format!("global `{name}` has a kind already, in line {line}"),
                "keep one of the two".into(),
            );
            return;
        }
        let line = self.set.source.line(span.start);
        self.seen_globals.insert(name.to_owned(), line);
        let origin = self.origin(span, reason);
        let rule = GlobalRule { kind, origin };
        self.set.globals.push((name.to_owned(), rule));
    }
}
