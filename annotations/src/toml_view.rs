//! Reading a TOML file key by key, keeping for every value where it stands.

use crate::diagnostic::Diagnostic;
use std::ops::Range as Span;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::de::{DeTable, DeValue};
use toml::Spanned;

/// Text of a file, and where its lines start.
#[derive(Debug)]
pub(crate) struct Source {
    pub path: PathBuf,
    text: String,
    line_starts: Vec<usize>,
}

impl Source {
    pub fn new(path: &Path, text: &str) -> Arc<Source> {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Arc::new(Source {
            path: path.to_owned(),
            text: text.to_owned(),
            line_starts: std::iter::once(0).chain(ends).collect(),
        })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line of a byte position, from 1.
    pub fn line(&self, position: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= position)
    }

    pub fn diagnostic(&self, span: &Span<usize>, message: impl Into<String>) -> Diagnostic {
        let line = self.line(span.start);
        let start = self.line_starts[line - 1];
        let text = self.text[start..].lines().next().unwrap_or("");
        let from = (span.start - start).min(text.len());
        let to = (span.end.saturating_sub(start)).clamp(from, text.len());
        let chars = |range: Span<usize>| text.get(range).map_or(0, |t| t.chars().count());
        Diagnostic {
            file: self.path.clone(),
            line,
            column: chars(0..from) + 1,
            text: text.to_owned(),
            width: chars(from..to).max(1),
            message: message.into(),
            help: None,
        }
    }
}

/// A file being read, with the problems found so far.
pub(crate) struct Reader {
    pub source: Arc<Source>,
    pub problems: Vec<Diagnostic>,
}

pub(crate) type Key<'a> = Spanned<std::borrow::Cow<'a, str>>;
pub(crate) type Value<'a> = Spanned<DeValue<'a>>;

impl Reader {
    pub fn new(source: Arc<Source>) -> Reader {
        Reader {
            source,
            problems: Vec::new(),
        }
    }

    /// Runs `read` on the top table; syntax errors become problems.
    pub fn document(&mut self, read: impl FnOnce(&mut Reader, &DeTable<'_>)) {
        let source = self.source.clone();
        let (table, errors) = DeTable::parse_recoverable(source.text());
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            self.report(&span, format!("not valid TOML: {}", error.message()));
        }
        // After a syntax error the rest may be misread, and would only add confusion.
        if errors.is_empty() {
            read(self, table.get_ref());
        }
    }

    pub fn report(&mut self, span: &Span<usize>, message: impl Into<String>) {
        self.problems.push(self.source.diagnostic(span, message));
    }

    pub fn report_with_help(&mut self, span: &Span<usize>, message: String, help: String) {
        self.problems
            .push(self.source.diagnostic(span, message).help(help));
    }

    pub fn string<'v>(&mut self, value: &'v Value<'_>, what: &str) -> Option<&'v str> {
        match value.get_ref() {
            DeValue::String(text) => Some(text),
            other => self.mismatch(value, what, "a string", other),
        }
    }

    pub fn table<'v, 'a>(&mut self, value: &'v Value<'a>, what: &str) -> Option<&'v DeTable<'a>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(table),
            other => self.mismatch(value, what, "a table", other),
        }
    }

    pub fn array<'v, 'a>(&mut self, value: &'v Value<'a>, what: &str) -> Option<&'v [Value<'a>]> {
        match value.get_ref() {
            DeValue::Array(array) => Some(array),
            other => self.mismatch(value, what, "an array", other),
        }
    }

    /// An array of strings with their places.
    pub fn strings(&mut self, value: &Value<'_>, what: &str) -> Vec<(String, Span<usize>)> {
        let Some(array) = self.array(value, what) else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for item in array {
            if let Some(text) = self.string(item, what) {
                all.push((text.to_owned(), item.span()));
            }
        }
        all
    }

    pub fn unsigned(&mut self, value: &Value<'_>, what: &str) -> Option<u64> {
        if let DeValue::Integer(n) = value.get_ref() {
            if let Ok(n) = u64::from_str_radix(n.as_str(), n.radix()) {
                return Some(n);
            }
        }
        self.mismatch(value, what, "a non-negative integer", value.get_ref())
    }

    pub fn boolean(&mut self, value: &Value<'_>, what: &str) -> Option<bool> {
        match value.get_ref() {
            DeValue::Boolean(b) => Some(*b),
            other => self.mismatch(value, what, "true or false", other),
        }
    }

    fn mismatch<T>(
        &mut self,
        value: &Value<'_>,
        what: &str,
        expected: &str,
        found: &DeValue<'_>,
    ) -> Option<T> {
        let found = match found {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.report(
            &value.span(),
            format!("{what} must be {expected}, not {found}"),
        );
        None
    }

    pub fn unknown_key(&mut self, key: &Key<'_>, place: &str, known: &[&str]) {
        let help = match closest(key.get_ref(), known) {
            Some(near) => format!("did you mean `{near}`? Keys here: {}", known.join(", ")),
            None => format!("keys here: {}", known.join(", ")),
        };
        self.report_with_help(
            &key.span(),
            format!("unknown key `{}` in {place}", key.get_ref()),
            help,
        );
    }
}

/// The known word nearest to a mistyped one, when it is near enough to be worth naming.
pub(crate) fn closest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|k| (distance(word, k), *k))
        .filter(|(d, k)| *d <= 1 + k.len() / 4)
        .min()
        .map(|(_, k)| k)
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
