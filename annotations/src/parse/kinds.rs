//! The words for kinds.

use crate::function::FunctionKind;
use crate::kind::{self, FieldKind};
use crate::toml_view::{closest, Reader, Value};

pub(super) fn field_kind(
    r: &mut Reader,
    value: &Value<'_>,
    what: &str,
) -> Option<Option<FieldKind>> {
    let word = r.string(value, what)?;
    let kind = kind::parse_or_normal(word).ok();
    if kind.is_none() {
        let known: Vec<&str> = FieldKind::ALL.iter().map(|k| k.as_str()).collect();
        unknown_kind(r, value, word, what, &known, &kind::words());
    }
    kind
}

/// A kind for memory reached through pointers, which has no place to count in.
pub(super) fn memory_kind(r: &mut Reader, value: &Value<'_>, what: &str) -> Option<FieldKind> {
    let kind = field_kind(r, value, what)?;
    match kind {
        Some(k @ (FieldKind::Immutable | FieldKind::Private | FieldKind::Racy)) => Some(k),
        None => None,
        Some(k) => {
            r.report_with_help(
                &value.span(),
                format!("{what} cannot be {k}"),
                "memory that is reached through pointers can be immutable, private or racy".into(),
            );
            None
        }
    }
}

pub(super) fn function_kind(r: &mut Reader, value: &Value<'_>) -> Option<FunctionKind> {
    let word = r.string(value, "`kind`")?;
    let kind = FunctionKind::from_word(word);
    if kind.is_none() {
        let known: Vec<&str> = FunctionKind::ALL.iter().map(|k| k.as_str()).collect();
        unknown_kind(r, value, word, "the function", &known, &known.join(", "));
    }
    kind
}

fn unknown_kind(
    r: &mut Reader,
    value: &Value<'_>,
    word: &str,
    what: &str,
    known: &[&str],
    all: &str,
) {
    let help = match closest(word, known) {
        Some(near) => format!("did you mean \"{near}\"? Kinds: {all}"),
        None => format!("kinds: {all}"),
    };
    r.report_with_help(
        &value.span(),
        format!("unknown kind \"{word}\" of {what}"),
        help,
    );
}

pub(super) fn alignment(r: &mut Reader, value: &Value<'_>, what: &str) -> Option<u64> {
    let align = r.unsigned(value, what)?;
    if align.is_power_of_two() {
        return Some(align);
    }
    r.report(
        &value.span(),
        format!("an alignment is a power of two, not {align}"),
    );
    None
}
