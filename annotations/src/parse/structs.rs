//! `[struct.NAME]`: fields by name or by offset.

use super::kinds::{alignment, field_kind, memory_kind};
use super::{in_file_order, Parser, RawField, RawStruct, EXPLICIT_KEYS, WHOLE};
use crate::kind::{self, FieldKind};
use crate::toml_view::{Key, Reader, Value};
use toml::de::{DeTable, DeValue};

impl Parser {
    pub(super) fn structs(&mut self, r: &mut Reader, value: &Value<'_>) {
        let Some(table) = r.table(value, "`struct`") else {
            return;
        };
        for (key, value) in in_file_order(table) {
            let name = key.get_ref().to_string();
            let Some(fields) = r.table(value, &format!("`struct.{name}`")) else {
                continue;
            };
            let mut rule = RawStruct {
                origin: self.origin(key.span(), None),
                name,
                align: None,
                fields: Vec::new(),
            };
            self.fields(r, &mut rule, "", fields);
            self.set.structs.push(rule);
        }
    }

    fn fields(&mut self, r: &mut Reader, rule: &mut RawStruct, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in in_file_order(table) {
            let written = format!("{prefix}{}", key.get_ref());
            let what = format!("field `{written}` of struct {}", rule.name);
            let pointed = written.strip_prefix('*').filter(|rest| !rest.is_empty());
            let pointee = pointed.is_some();
            let path = pointed.unwrap_or(&written).to_owned();
            if path != WHOLE
                && path
                    .split('.')
                    .any(|part| part.contains('*') || part.is_empty())
            {
                r.report_with_help(
                    &key.span(),
                    format!("{what} is not a field path"),
                    "a path is like `a.b[2].c`, or `*a.b` for what it points to; `\"*\"` alone \
                     stands for the whole struct"
                        .into(),
                );
                continue;
            }
            match value.get_ref() {
                DeValue::Integer(_) if path == "align" => {
                    rule.align = alignment(r, value, &what);
                }
                DeValue::Table(nested) if !is_explicit(nested) => {
                    self.fields(r, rule, &format!("{written}."), nested);
                }
                DeValue::Table(explicit) => {
                    let field = self.explicit_field(r, key, path, explicit, &what);
                    rule.fields.extend(field.map(|f| RawField { pointee, ..f }));
                }
                _ => {
                    let kind = if pointee {
                        memory_kind(r, value, &what).map(Some)
                    } else {
                        field_kind(r, value, &what)
                    };
                    let Some(kind) = kind else {
                        continue;
                    };
                    let origin = self.origin(key.span(), None);
                    refuse_counting_whole(r, key, &path, kind, &rule.name);
                    rule.fields.push(RawField {
                        path,
                        pointee,
                        kind,
                        explicit: None,
                        origin,
                    });
                }
            }
        }
    }

    fn explicit_field(
        &mut self,
        r: &mut Reader,
        key: &Key<'_>,
        path: String,
        table: &DeTable<'_>,
        what: &str,
    ) -> Option<RawField> {
        let (mut kind, mut offset, mut size, mut reason) = (None, None, None, None);
        for (key, value) in in_file_order(table) {
            let entry = format!("`{}` of {what}", key.get_ref());
            match &**key.get_ref() {
                "kind" => kind = field_kind(r, value, what),
                "offset" => offset = r.unsigned(value, &entry),
                "size" => size = r.unsigned(value, &entry),
                "reason" => reason = r.string(value, &entry),
                _ => r.unknown_key(key, what, &EXPLICIT_KEYS),
            }
        }
        let (Some(kind), Some(offset), Some(size)) = (kind, offset, size) else {
            r.report_with_help(
                &key.span(),
                format!("{what} gives an offset, but not all of kind, offset and size"),
                "for example: { kind = \"immutable\", offset = 8, size = 8 }".into(),
            );
            return None;
        };
        let counts = kind.is_some_and(FieldKind::needs_integer);
        if size == 0 || offset.checked_add(size).is_none() || (counts && size != 4 && size != 8) {
            let kind = kind.map_or(kind::NORMAL, FieldKind::as_str);
            r.report(
                &key.span(),
                format!("{what} cannot have size {size} and kind {kind}"),
            );
            return None;
        }
        refuse_counting_whole(r, key, &path, kind, what);
        Some(RawField {
            path,
            pointee: false,
            kind,
            explicit: Some((offset, size)),
            origin: self.origin(key.span(), reason),
        })
    }
}

/// A table with an integer `offset` is a rule with offsets, any other names nested fields.
fn is_explicit(table: &DeTable<'_>) -> bool {
    let offset = table.get("offset").map(|v| v.get_ref());
    matches!(offset, Some(DeValue::Integer(_)))
}

fn refuse_counting_whole(
    r: &mut Reader,
    key: &Key<'_>,
    path: &str,
    kind: Option<FieldKind>,
    of: &str,
) {
    if let Some(kind) = kind.filter(|k| path == WHOLE && k.needs_integer()) {
        r.report_with_help(
            &key.span(),
            format!("the whole of {of} cannot be {kind}"),
            "name the integer field that counts".into(),
        );
    }
}
