//! Sets that have been loaded, and questions about them.

use crate::diagnostic::{Diagnostic, Error};
use crate::file::{self, Layouts, SetFile};
use crate::function::FunctionRule;
use crate::kind::FieldKind;
use crate::layout;
use crate::pattern;
use crate::resolve;
use crate::toml_view::Source;
use std::collections::HashMap;
use std::ops::Range as Span;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a rule stands, and why it is there.
#[derive(Clone, Debug)]
pub struct Origin {
    source: Arc<Source>,
    pub(crate) span: Span<usize>,
    reason: Option<Arc<str>>,
}

impl Origin {
    pub(crate) fn new(source: Arc<Source>, span: Span<usize>, reason: Option<&str>) -> Origin {
        Origin {
            source,
            span,
            reason: reason.map(Arc::from),
        }
    }

    pub fn file(&self) -> &Path {
        &self.source.path
    }

    /// Line number, from 1.
    pub fn line(&self) -> usize {
        self.source.line(self.span.start)
    }

    /// The `reason` given in the set.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// A problem with this rule.
    pub fn diagnostic(&self, message: impl Into<String>) -> Diagnostic {
        self.source.diagnostic(&self.span, message)
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Origin) -> bool {
        Arc::ptr_eq(&self.source, &other.source) && self.span == other.span
    }
}

impl Eq for Origin {}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file().display(), self.line())
    }
}

/// Bytes `offset..offset + size` of a struct have this kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRule {
    pub offset: u64,
    pub size: u64,
    pub kind: FieldKind,
    /// The field as named in the set; `*` for the rule of the whole struct.
    pub field: String,
    pub origin: Origin,
}

/// What is known about a struct or union.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StructRule {
    /// Size in bytes, from the layout.
    pub size: Option<u64>,
    /// Objects of this type always start at a multiple of this, by promise of the set.
    pub align: Option<u64>,
    /// Sorted, without overlap. Bytes that no rule covers are normal. When the struct ends in an
    /// array of at most one element (`ob_item[1]`), the rule of that array has no end.
    pub fields: Vec<FieldRule>,
    /// Rules about the memory that pointers in these fields point to (`"*instr_ptr" = "racy"`):
    /// what is accessed directly through a pointer loaded from the field, also after arithmetic on
    /// it and by way of local variables that hold nothing but such pointers.
    pub pointees: Vec<FieldRule>,
}

impl StructRule {
    /// The kind of an access of `size` bytes at `byte_offset`, if all its bytes have the same one.
    pub fn field_kind(&self, byte_offset: u64, size: u64) -> Option<FieldKind> {
        kind_in(&self.fields, byte_offset, size)
    }

    /// The kind of the memory that a pointer stored at `byte_offset` points to.
    pub fn pointee_kind(&self, byte_offset: u64, size: u64) -> Option<FieldKind> {
        kind_in(&self.pointees, byte_offset, size)
    }
}

/// The kind of a variable; `None` is normal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobalRule {
    pub kind: Option<FieldKind>,
    pub origin: Origin,
}

/// One or more sets; where two say something about the same thing, the later one is right.
#[derive(Debug, Default)]
pub struct Sets {
    structs: HashMap<String, StructRule>,
    functions: Named<FunctionRule>,
    globals: Named<GlobalRule>,
    hot: Named<()>,
    instrumented: Named<()>,
    balanced: bool,
    bounded_recursion: bool,
    names: Vec<String>,
}

impl Sets {
    /// Loads sets from files, for code compiled for the machine that this runs on.
    ///
    /// A path that is the bare name of a set that comes with Ame (`libc`, `cpython-3.13`) means
    /// that set, if there is no such file.
    pub fn load(paths: &[PathBuf]) -> Result<Sets, Error> {
        Sets::load_for(paths, &layout::host_target())
    }

    /// Loads sets for a target, such as `x86_64-linux`.
    pub fn load_for(paths: &[PathBuf], target: &str) -> Result<Sets, Error> {
        let mut files = Vec::new();
        let mut problems = Vec::new();
        for path in paths {
            match SetFile::read(path, target, Layouts::Read) {
                Ok(file) => files.push(file),
                Err(error) => problems.extend(error.diagnostics),
            }
        }
        Error::unless_empty(problems)?;
        Sets::from_files(&files)
    }

    /// Names of the sets that come with Ame.
    pub fn shipped() -> impl Iterator<Item = &'static str> {
        file::shipped_names()
    }

    /// The set that comes with Ame and always applies: libc, libm and pthread.
    pub fn builtin() -> Sets {
        let loaded = Sets::load(&[PathBuf::from("libc")]);
        // A test loads it; it is part of the binary.
        loaded.unwrap_or_else(|error| panic!("the set libc of this build is broken:\n{error}"))
    }

    /// The set that always applies, overridden by those of the files.
    pub fn builtin_and(paths: &[PathBuf]) -> Result<Sets, Error> {
        let mut all = vec![PathBuf::from("libc")];
        all.extend_from_slice(paths);
        Sets::load(&all)
    }

    pub(crate) fn from_files(files: &[SetFile]) -> Result<Sets, Error> {
        let mut sets = Sets {
            structs: resolve::structs(files)?,
            ..Sets::default()
        };
        for SetFile { raw, .. } in files {
            sets.names.push(raw.name.clone());
            for (name, rule) in &raw.functions {
                sets.functions.insert(name, rule.clone());
            }
            for name in &raw.hot {
                sets.hot.insert(name, ());
            }
            for name in &raw.instrumented {
                sets.instrumented.insert(name, ());
            }
            sets.balanced |= raw.balanced;
            sets.bounded_recursion |= raw.bounded_recursion;
            for (name, rule) in &raw.globals {
                sets.globals.insert(name, rule.clone());
            }
        }
        Ok(sets)
    }

    /// Names of the loaded sets, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The kind of an access of `size` bytes at `byte_offset` of a struct, if all its bytes have
    /// the same one. The name may be spelled as in LLVM IR (`struct._object.12`).
    pub fn field_kind(&self, name: &str, byte_offset: u64, size: u64) -> Option<FieldKind> {
        self.structure(name)?.field_kind(byte_offset, size)
    }

    /// The kind of the memory that a pointer stored at `byte_offset` of a struct points to.
    pub fn pointee_kind(&self, name: &str, byte_offset: u64, size: u64) -> Option<FieldKind> {
        self.structure(name)?.pointee_kind(byte_offset, size)
    }

    /// The rules of a struct by offset, without overlap; empty when nothing is known.
    pub fn fields(&self, name: &str) -> &[FieldRule] {
        self.structure(name).map_or(&[], |s| &s.fields)
    }

    /// All that is known about a struct.
    pub fn structure(&self, name: &str) -> Option<&StructRule> {
        self.structs.get(tag_of(name))
    }

    /// The rule of a function. A name beats a pattern, a long pattern a short one.
    pub fn function(&self, name: &str) -> Option<&FunctionRule> {
        self.functions.get(name)
    }

    /// The rule of a global variable, or of a function's static variable, which LLVM IR calls
    /// `function.variable`.
    pub fn global(&self, name: &str) -> Option<&GlobalRule> {
        self.globals.get(name)
    }

    /// Whether a set lists the function as one that the time goes into.
    pub fn is_hot(&self, name: &str) -> bool {
        self.hot.get(name).is_some()
    }

    /// Whether a set promises that the function is compiled with the plugin wherever it is.
    pub fn is_instrumented(&self, name: &str) -> bool {
        self.instrumented.get(name).is_some()
    }

    /// Whether some set says which functions are hot: all others then are not.
    pub fn tells_hot(&self) -> bool {
        !self.hot.exact.is_empty() || !self.hot.patterns.is_empty()
    }

    /// Whether all functions, and all that they call, return in the mode in which they were called:
    /// in a transaction or not.
    pub fn balanced(&self) -> bool {
        self.balanced
    }

    /// Whether no recursion of the program runs for long without a barrier or a loop.
    pub fn bounded_recursion(&self) -> bool {
        self.bounded_recursion
    }

    /// All functions that are named, not matched by a pattern, in no particular order.
    pub fn functions(&self) -> impl Iterator<Item = (&str, &FunctionRule)> {
        self.functions.exact.iter().map(|(n, r)| (n.as_str(), r))
    }

    /// All structs with rules, in no particular order.
    pub fn structures(&self) -> impl Iterator<Item = (&str, &StructRule)> {
        self.structs.iter().map(|(n, r)| (n.as_str(), r))
    }
}

/// The kind of bytes `byte_offset..byte_offset + size`, if they all have the same.
fn kind_in(fields: &[FieldRule], byte_offset: u64, size: u64) -> Option<FieldKind> {
    let end = byte_offset.checked_add(size)?;
    let first = fields.partition_point(|f| f.offset + f.size <= byte_offset);
    let kind = fields.get(first)?.kind;
    let mut covered = byte_offset;
    for field in &fields[first..] {
        if field.offset > covered || field.kind != kind {
            return None;
        }
        covered = field.offset + field.size;
        if covered >= end {
            return Some(kind);
        }
    }
    None
}

/// `struct._object.12`, `union.x` -> the C tag or typedef name.
fn tag_of(name: &str) -> &str {
    let prefixes = ["struct.", "union.", "class."];
    let Some(tag) = prefixes.iter().find_map(|p| name.strip_prefix(p)) else {
        return name;
    };
    match tag.rsplit_once('.') {
        // LLVM numbers types of the same name when it links modules.
        Some((tag, number)) if number.bytes().all(|b| b.is_ascii_digit()) => tag,
        _ => tag,
    }
}

/// Rules by name or pattern.
#[derive(Debug)]
struct Named<T> {
    exact: HashMap<String, T>,
    /// Longest first.
    patterns: Vec<(String, T)>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named {
            exact: HashMap::new(),
            patterns: Vec::new(),
        }
    }
}

impl<T> Named<T> {
    fn insert(&mut self, name: &str, rule: T) {
        if !pattern::is_pattern(name) {
            self.exact.insert(name.to_owned(), rule);
            return;
        }
        self.patterns.retain(|(p, _)| p != name);
        let at = self.patterns.partition_point(|(p, _)| p.len() > name.len());
        self.patterns.insert(at, (name.to_owned(), rule));
    }

    fn get(&self, name: &str) -> Option<&T> {
        self.exact.get(name).or_else(|| {
            let mut patterns = self.patterns.iter();
            patterns
                .find(|(p, _)| pattern::matches(p, name))
                .map(|(_, rule)| rule)
        })
    }
}
