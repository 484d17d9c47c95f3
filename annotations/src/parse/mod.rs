//! A set as it is written: names, not offsets.

mod functions;
mod globals;
mod kinds;
mod structs;

use crate::diagnostic::{Diagnostic, Error};
use crate::function::FunctionRule;
use crate::kind::FieldKind;
use crate::sets::{GlobalRule, Origin};
use crate::toml_view::{Key, Reader, Source, Value};
use std::collections::HashMap;
use std::ops::Range as Span;
use std::path::Path;
use std::sync::Arc;
use toml::de::DeTable;

/// One set file.
#[derive(Clone, Debug)]
pub(crate) struct RawSet {
    pub name: String,
    pub source: Arc<Source>,
    pub check: CheckSection,
    pub structs: Vec<RawStruct>,
    pub functions: Vec<(String, FunctionRule)>,
    /// Names or patterns of functions that the time goes into.
    pub hot: Vec<String>,
    /// Names or patterns of functions that are compiled with the plugin wherever they are.
    pub instrumented: Vec<String>,
    /// Whether all functions return in the mode, in a transaction or not, in which they were called.
    pub balanced: bool,
    /// Whether no recursion runs for long without a barrier or a loop.
    pub bounded_recursion: bool,
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

const TOP_KEYS: [&str; 12] = [
    "name",
    "description",
    "balanced",
    "bounded_recursion",
    "hot",
    "instrumented",
    "check",
    "struct",
    "function",
    "functions",
    "global",
    "globals",
];
const CHECK_KEYS: [&str; 3] = ["headers", "sources", "args"];
const FUNCTION_KEYS: [&str; 15] = [
    "kind",
    "polls",
    "quiet",
    "allocates",
    "declared",
    "instrument",
    "replace",
    "replace_in_clones",
    "replace_pointers",
    "reads",
    "writes",
    "accesses",
    "returns",
    "align",
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
                hot: Vec::new(),
                instrumented: Vec::new(),
                balanced: false,
                bounded_recursion: false,
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
                "balanced" => self.set.balanced = r.boolean(value, "`balanced`").unwrap_or(false),
                "bounded_recursion" => {
                    self.set.bounded_recursion =
                        r.boolean(value, "`bounded_recursion`") == Some(true);
                }
                "hot" => self.set.hot = names(r.strings(value, "`hot`")),
                "instrumented" => {
                    self.set.instrumented = names(r.strings(value, "`instrumented`"));
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
}

fn names(strings: Vec<(String, Span<usize>)>) -> Vec<String> {
    strings.into_iter().map(|(name, _)| name).collect()
}

/// Entries by position: problems and rules then come in the order of the file.
fn in_file_order<'t, 'a>(table: &'t DeTable<'a>) -> Vec<(&'t Key<'a>, &'t Value<'a>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}
