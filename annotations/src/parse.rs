//! A set as it is written: names, not offsets.

use crate::diagnostic::{Diagnostic, Error};
use crate::function::{FunctionKind, FunctionRule, Range};
use crate::kind::{self, FieldKind};
use crate::sets::{GlobalRule, Origin};
use crate::toml_view::{closest, Key, Reader, Source, Value};
use std::collections::HashMap;
use std::ops::Range as Span;
use std::path::Path;
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// One set file.
#[derive(Clone, Debug)]
pub(crate) struct RawSet {
    pub name: String,
    pub source: Arc<Source>,
    pub check: CheckSection,
    pub structs: Vec<RawStruct>,
    pub functions: Vec<(String, FunctionRule)>,
    pub globals: Vec<(String, GlobalRule)>,
}

/// How the set is to be checked: what `ame annotations check` parses besides its arguments.
#[derive(Clone, Debug, Default)]
pub(crate) struct CheckSection {
    /// Headers of one translation unit, in this order.
    pub headers: Vec<String>,
    /// C files, each a translation unit of its own; for static functions and variables.
    pub sources: Vec<String>,
    /// Compiler arguments.
    pub args: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct RawStruct {
    pub name: String,
    pub origin: Origin,
    pub align: Option<u64>,
    pub fields: Vec<RawField>,
}

impl RawStruct {
    /// The rule for all bytes that no other rule names.
    pub fn whole(&self) -> Option<&RawField> {
        self.fields.iter().find(|f| f.is_whole())
    }
}

/// One field rule. The path is `a.b[2].c`, or `*` for the whole struct.
#[derive(Clone, Debug)]
pub(crate) struct RawField {
    pub path: String,
    /// Written `*a.b[2].c`: not the field, but what it points to.
    pub pointee: bool,
    /// `None`: normal.
    pub kind: Option<FieldKind>,
    /// Byte offset and size, when the set gives them itself.
    pub explicit: Option<(u64, u64)>,
    pub origin: Origin,
}

impl RawField {
    pub fn is_whole(&self) -> bool {
        self.path == WHOLE && !self.pointee
    }
}

pub(crate) const WHOLE: &str = "*";

const TOP_KEYS: [&str; 8] = [
    "name",
    "description",
    "check",
    "struct",
    "function",
    "functions",
    "global",
    "globals",
];
const CHECK_KEYS: [&str; 3] = ["headers", "sources", "args"];
const FUNCTION_KEYS: [&str; 9] = [
    "kind",
    "declared",
    "instrument",
    "replace",
    "reads",
    "writes",
    "accesses",
    "returns",
    "reason",
];
const EXPLICIT_KEYS: [&str; 4] = ["kind", "offset", "size", "reason"];

pub(crate) fn parse(path: &Path, text: &str) -> Result<RawSet, Error> {
    let mut parser = Parser::new(path, text);
    let mut reader = Reader::new(parser.set.source.clone());
    reader.document(|reader, top| parser.top(reader, top));
    Error::unless_empty(reader.problems)?;
    Ok(parser.set)
}

struct Parser {
    set: RawSet,
    /// Where each function and global was named, to find those named twice.
    seen_functions: HashMap<String, usize>,
    seen_globals: HashMap<String, usize>,
}

impl Parser {
    fn new(path: &Path, text: &str) -> Parser {
        Parser {
            set: RawSet {
                name: String::new(),
                source: Source::new(path, text),
                check: CheckSection::default(),
                structs: Vec::new(),
                functions: Vec::new(),
                globals: Vec::new(),
            },
            seen_functions: HashMap::new(),
            seen_globals: HashMap::new(),
        }
    }

    fn origin(&self, span: Span<usize>, reason: Option<&str>) -> Origin {
        Origin::new(self.set.source.clone(), span, reason)
    }

    fn top(&mut self, r: &mut Reader, top: &DeTable<'_>) {
        match top.get("name") {
            Some(name) => self.set.name = r.string(name, "`name`").unwrap_or("").to_owned(),
            None => r.problems.push(
                Diagnostic::of_file(&self.set.source.path, "the set has no name")
                    .help("start the file with: name = \"my-library\""),
            ),
        }
        for (key, value) in in_file_order(top) {
            match &**key.get_ref() {
                "name" => {}
                "description" => {
                    r.string(value, "`description`");
                }
                "check" => self.check(r, value),
                "struct" => self.structs(r, value),
                "function" => self.function_table(r, value),
                "functions" => self.function_groups(r, value),
                "global" => self.global_table(r, value),
                "globals" => self.global_groups(r, value),
                _ => r.unknown_key(key, "the set", &TOP_KEYS),
            }
        }
    }

    fn check(&mut self, r: &mut Reader, value: &Value<'_>) {
        let Some(table) = r.table(value, "`check`") else {
            return;
        };
        for (key, value) in in_file_order(table) {
            let what = format!("`check.{}`", key.get_ref());
            let texts = |r: &mut Reader| r.strings(value, &what).into_iter().map(|s| s.0).collect();
            match &**key.get_ref() {
                "headers" => self.set.check.headers = texts(r),
                "sources" => self.set.check.sources = texts(r),
                "args" => self.set.check.args = texts(r),
                _ => r.unknown_key(key, "[check]", &CHECK_KEYS),
            }
        }
    }

    // --- structs ---

    fn structs(&mut self, r: &mut Reader, value: &Value<'_>) {
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
                    rule.align = self.align(r, value, &what);
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

    fn align(&mut self, r: &mut Reader, value: &Value<'_>, what: &str) -> Option<u64> {
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

    // --- functions ---

    fn function_table(&mut self, r: &mut Reader, value: &Value<'_>) {
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

    fn function_groups(&mut self, r: &mut Reader, value: &Value<'_>) {
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
            reads: Vec::new(),
            writes: Vec::new(),
            accesses: None,
            returns: None,
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

    // --- globals ---

    fn global_table(&mut self, r: &mut Reader, value: &Value<'_>) {
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

    fn global_groups(&mut self, r: &mut Reader, value: &Value<'_>) {
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

/// Entries by position: problems and rules then come in the order of the file.
fn in_file_order<'t, 'a>(table: &'t DeTable<'a>) -> Vec<(&'t Key<'a>, &'t Value<'a>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// A table with an integer `offset` is a rule with offsets, any other names nested fields.
fn is_explicit(table: &DeTable<'_>) -> bool {
    let offset = table.get("offset").map(|v| v.get_ref());
    matches!(offset, Some(DeValue::Integer(_)))
}

fn field_kind(r: &mut Reader, value: &Value<'_>, what: &str) -> Option<Option<FieldKind>> {
    let word = r.string(value, what)?;
    let kind = kind::parse_or_normal(word).ok();
    if kind.is_none() {
        let known: Vec<&str> = FieldKind::ALL.iter().map(|k| k.as_str()).collect();
        unknown_kind(r, value, word, what, &known, &kind::words());
    }
    kind
}

/// A kind for memory reached through pointers, which has no place to count in.
fn memory_kind(r: &mut Reader, value: &Value<'_>, what: &str) -> Option<FieldKind> {
    let kind = field_kind(r, value, what)?;
    match kind {
        Some(k @ (FieldKind::Immutable | FieldKind::Private | FieldKind::Racy)) => Some(k),
        None => None,
        Some(k) => {
            r.report_with_help(
                &value.span(),
                format!("{what} cannot be {k}"),
                "only immutable, private and racy apply to all memory that a function touches"
                    .into(),
            );
            None
        }
    }
}

fn function_kind(r: &mut Reader, value: &Value<'_>) -> Option<FunctionKind> {
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
