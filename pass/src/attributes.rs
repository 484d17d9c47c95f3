//! `ame:` texts: what C attributes say, and how the tag phase hands it to the instrument phase.
//!
//! A function's rules are kept in its string attribute `"ame"`, words separated by `;` in the
//! syntax of ame.h: `pure`, `replace=symbol`, `reads=0,16 bytes`.

use crate::ffi::Value;
use ame_annotations::{FieldKind, FunctionKind, Range, Sets};
use std::borrow::Cow;

/// Name of the function attribute.
pub const KEY: &str = "ame";
/// Name of the attribute of a plain clone: what it is a clone of.
pub const CLONE: &str = "ame-clone";
/// Name of the attribute of a function that runs in transactions of a domain: what it is a copy of.
pub const BODY: &str = "ame-body";
/// Word for an entry to an extension that runs without the GIL.
pub const PARALLEL: &str = "parallel";
/// What annotation strings of the pass start with.
pub const PREFIX: &str = "ame:";
/// Name of the attribute of a clone that callers of the function may be sent to.
pub const TWIN: &str = "ame-twin";

/// A function's rule from either source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub kind: FunctionKind,
    pub replace: Option<String>,
    /// Also where plain clones call it.
    pub replace_in_clones: bool,
    /// Also where it is not called.
    pub replace_pointers: bool,
    pub reads: Vec<Range>,
    pub writes: Vec<Range>,
    pub accesses: Option<FieldKind>,
    pub returns: Option<FieldKind>,
    /// The address that it returns is a multiple of this.
    pub align: Option<u64>,
    /// No transaction ends or begins in it.
    pub quiet: bool,
    /// Returns new memory of the runtime's allocator.
    pub allocates: bool,
    /// Gets a clone without barriers.
    pub hot: bool,
}

/// The rule of `function`: its own attribute, else that of the sets.
pub fn rule<'a>(function: Value, sets: &'a Sets) -> Option<Cow<'a, Rule>> {
    if let Some(text) = function.text_attribute(KEY) {
        // The tag phase has reported what cannot be parsed.
        return parse_function(text).ok().map(Cow::Owned);
    }
    sets.function(function.name()).map(|r| {
        Cow::Owned(Rule {
            kind: r.kind,
            replace: r.replace.clone(),
            replace_in_clones: r.replace_in_clones,
            replace_pointers: r.replace_pointers,
            reads: r.reads.clone(),
            writes: r.writes.clone(),
            accesses: r.accesses,
            returns: r.returns,
            align: r.align,
            quiet: r.quiet,
            allocates: r.allocates,
            hot: false,
        })
    })
}

/// Parses the words of a function, separated by `;`.
pub fn parse_function(text: &str) -> Result<Rule, String> {
    let mut rule = Rule {
        replace_in_clones: true,
        replace_pointers: true,
        ..Rule::default()
    };
    for word in text.split(';').map(str::trim).filter(|w| !w.is_empty()) {
        match word.split_once('=') {
            Some(("replace", symbol)) => rule.replace = Some(unquote(symbol).to_owned()),
            Some(("reads", range)) => rule.reads.push(Range::parse(range)?),
            Some(("writes", range)) => rule.writes.push(Range::parse(range)?),
            Some(("accesses", kind)) => rule.accesses = Some(field_kind(kind)?),
            Some(("returns", kind)) => rule.returns = Some(field_kind(kind)?),
            Some(("align", bytes)) => rule.align = Some(alignment(bytes)?),
            _ if word == "hot" => rule.hot = true,
            _ if word == "quiet" => rule.quiet = true,
            _ if word == "allocates" => (rule.allocates, rule.quiet) = (true, true),
            // Of entries to extensions, which the extension phase looks at.
            _ if word == PARALLEL => {}
            _ => {
                rule.kind = FunctionKind::from_word(word).ok_or_else(|| {
                    format!("`{word}` is no kind of function; see docs/annotations.md")
                })?
            }
        }
    }
    Ok(rule)
}

/// Parses the kind of a field or variable.
pub fn field_kind(text: &str) -> Result<FieldKind, String> {
    FieldKind::from_word(text.trim())
        .ok_or_else(|| format!("`{text}` is no kind of field; see docs/annotations.md"))
}

fn alignment(text: &str) -> Result<u64, String> {
    let bytes = text.trim().parse::<u64>().ok();
    bytes
        .filter(|n| n.is_power_of_two())
        .ok_or_else(|| format!("an alignment is a power of two, not `{text}`"))
}

/// `AME_REPLACE("f")` expands to the text `replace=f` or, by stringizing, `replace="f"`.
fn unquote(text: &str) -> &str {
    text.trim().trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use ame_annotations::Len;

    #[test]
    fn words_of_a_function() {
        let rule = parse_function("pure;reads=0,1;writes=2,16 bytes").unwrap();
        assert_eq!(rule.kind, FunctionKind::Pure);
        assert_eq!(
            rule.reads,
            [Range {
                arg: 0,
                len: Len::Arg(1)
            }]
        );
        assert_eq!(
            rule.writes,
            [Range {
                arg: 2,
                len: Len::Const(16)
            }]
        );
        assert_eq!(
            parse_function("replace=f").unwrap().replace.as_deref(),
            Some("f")
        );
        assert!(parse_function("purr").unwrap_err().contains("`purr`"));
        assert!(field_kind("immutible").is_err());
    }
}
