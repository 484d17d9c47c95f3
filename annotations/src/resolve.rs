//! From field names to byte ranges.
//!
//! Per struct, rules are painted over each other: the whole-struct rule first, then what embedded
//! structs say about themselves, then named fields, large ones before the small ones in them. A
//! later set's whole-struct rule starts over; its other rules paint over what earlier sets said.

use crate::diagnostic::{Diagnostic, Error};
use crate::file::SetFile;
use crate::kind::FieldKind;
use crate::layout::{self, StructLayout};
use crate::parse::{RawField, RawStruct};
use crate::sets::{FieldRule, Origin, StructRule};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Resolves all structs of all sets.
pub(crate) fn structs(files: &[SetFile]) -> Result<HashMap<String, StructRule>, Error> {
    let mut resolver = Resolver {
        files,
        done: HashMap::new(),
        problems: Vec::new(),
    };
    let all = files.iter().flat_map(|f| &f.raw.structs);
    let names: BTreeSet<&str> = all.map(|s| s.name.as_str()).collect();
    for name in names {
        resolver.resolve(name);
    }
    resolver.problems.extend(files.iter().filter_map(leftover));
    Error::unless_empty(resolver.problems)?;
    Ok(resolver.done)
}

/// A layout that has more than its set was made for another version of the set: it may also know
/// too little about embedded structs, which would not be noticed otherwise.
fn leftover(file: &SetFile) -> Option<Diagnostic> {
    let layout = file.layout.as_ref()?;
    let what = layout.structs.iter().find_map(|(name, made)| {
        let Some(rule) = file.raw.structs.iter().find(|s| s.name == *name) else {
            return Some(format!("struct {name}"));
        };
        let named = |path: &String| rule.fields.iter().any(|f| f.path == *path);
        let field = made.fields.keys().find(|path| !named(path))?;
        Some(format!("field `{field}` of struct {name}"))
    })?;
    let message = format!("the layout has {what}, of which the set says nothing any more");
    let problem = Diagnostic::of_file(&file.layout_path, message);
    Some(layout::missing(problem, &file.raw.source.path))
}

struct Resolver<'f> {
    files: &'f [SetFile],
    done: HashMap<String, StructRule>,
    problems: Vec<Diagnostic>,
}

/// What one set says about the struct in question.
struct Part<'f> {
    file: &'f SetFile,
    rule: &'f RawStruct,
    layout: Option<&'f StructLayout>,
}

/// A field rule with its place.
struct Placed<'f> {
    offset: u64,
    size: u64,
    field: &'f RawField,
}

impl Resolver<'_> {
    fn resolve(&mut self, name: &str) {
        if self.done.contains_key(name) {
            return;
        }
        // Present before it is complete: a cycle in a broken layout then ends.
        self.done.insert(name.to_owned(), StructRule::default());
        let mut parts = Vec::new();
        for file in self.files {
            for rule in file.raw.structs.iter().filter(|s| s.name == name) {
                let layout = file.layout.as_ref().and_then(|l| l.structs.get(name));
                parts.push(Part { file, rule, layout });
            }
        }
        let mut canvas = Canvas::default();
        let mut pointees = Vec::new();
        let from = parts.iter().rposition(|p| p.rule.whole().is_some());
        let from = from.unwrap_or(0);
        if let Some(part) = parts.get(from) {
            if let Some(placed) = part.rule.whole().and_then(|f| self.place(part, f)) {
                canvas.paint(&placed);
            }
        }
        let layout = parts.iter().rev().find_map(|p| p.layout);
        for (embedded, at) in layout.map_or(&[][..], |l| &l.embeds) {
            self.resolve(embedded);
            let Some(inner) = self.done.get(embedded).cloned() else {
                continue;
            };
            for field in inner.fields {
                // As a member, an array at the end has its declared size.
                let room = inner
                    .size
                    .map_or(field.size, |s| s.saturating_sub(field.offset));
                canvas.paint_rule(FieldRule {
                    offset: at + field.offset,
                    size: field.size.min(room),
                    ..field
                });
            }
            pointees.extend(inner.pointees.into_iter().map(|p| FieldRule {
                offset: at + p.offset,
                ..p
            }));
        }
        for part in &parts[from.min(parts.len())..] {
            let mut placed = Vec::new();
            for field in part.rule.fields.iter().filter(|f| !f.is_whole()) {
                match self.place(part, field) {
                    Some(p) if field.pointee => pointees.extend(p.rule()),
                    Some(p) => placed.push(p),
                    None => {}
                }
            }
            self.refuse_overlap(name, &mut placed);
            placed.iter().for_each(|p| canvas.paint(p));
        }
        pointees.sort_by_key(|p| p.offset);
        let rule = StructRule {
            size: layout.map(|l| l.size),
            align: parts.iter().rev().find_map(|p| p.rule.align),
            fields: canvas.finish(layout.and_then(|l| l.tail)),
            pointees,
        };
        self.done.insert(name.to_owned(), rule);
    }

    /// Finds a field's bytes, in the set or in the layout.
    fn place<'f>(&mut self, part: &Part<'f>, field: &'f RawField) -> Option<Placed<'f>> {
        let (offset, size) = match (field.explicit, part.layout) {
            (Some(place), _) => place,
            (None, None) => {
                // One problem per struct is enough.
                if part.rule.fields.iter().find(|f| f.explicit.is_none()) == Some(field) {
                    self.no_layout(part);
                }
                return None;
            }
            (None, Some(layout)) if field.is_whole() => (0, layout.size),
            (None, Some(layout)) => match layout.fields.get(&field.path) {
                Some(place) => *place,
                None => {
                    let message = format!(
                        "the layout {} has no field `{}` of struct {}",
                        part.file.layout_path.display(),
                        field.path,
                        part.rule.name
                    );
                    let problem = field.origin.diagnostic(message);
                    self.problems
                        .push(layout::missing(problem, part.rule.origin.file()));
                    return None;
                }
            },
        };
        let counts = field.kind.is_some_and(FieldKind::needs_integer);
        if counts && size != 4 && size != 8 {
            self.problems.push(field.origin.diagnostic(format!(
                "field `{}` of struct {} has {size} bytes; only 4 or 8 can be counted in",
                field.path, part.rule.name
            )));
        }
        Some(Placed {
            offset,
            size,
            field,
        })
    }

    fn no_layout(&mut self, part: &Part<'_>) {
        let path = part.file.layout_path.display();
        let message = if part.file.layout.is_some() {
            format!("the layout {path} has no struct {}", part.rule.name)
        } else {
            format!(
                "struct {} names fields without offsets, and there is no layout {path}",
                part.rule.name
            )
        };
        let problem = part.rule.origin.diagnostic(message);
        let set = part.rule.origin.file();
        self.problems.push(layout::missing(problem, set));
    }

    /// Sorts large before small; fields that share bytes must be nested or agree.
    fn refuse_overlap(&mut self, name: &str, placed: &mut [Placed<'_>]) {
        placed.sort_by_key(|p| std::cmp::Reverse(p.size));
        for (i, small) in placed.iter().enumerate() {
            for large in &placed[..i] {
                let (a, b) = (small.offset, small.offset + small.size);
                let (c, d) = (large.offset, large.offset + large.size);
                let apart = b <= c || d <= a;
                let nested = c <= a && b <= d && (a, b) != (c, d);
                if apart || nested || small.field.kind == large.field.kind {
                    continue;
                }
                let line = large.field.origin.line();
                self.problems.push(
                    small
                        .field
                        .origin
                        .diagnostic(format!(
                            "fields `{}` and `{}` (line {line}) of struct {name} share bytes, \
                             but have different kinds",
                            small.field.path, large.field.path
                        ))
                        .help("members of a union and bit-fields of one byte need the same kind"),
                );
            }
        }
    }
}

impl Placed<'_> {
    fn rule(&self) -> Option<FieldRule> {
        Some(FieldRule {
            offset: self.offset,
            size: self.size,
            kind: self.field.kind?,
            field: self.field.path.clone(),
            origin: self.field.origin.clone(),
        })
    }
}

impl PartialEq for RawField {
    fn eq(&self, other: &RawField) -> bool {
        self.origin == other.origin
    }
}

/// Byte ranges of a struct; painting replaces what was there.
#[derive(Default)]
struct Canvas {
    /// By start. They do not overlap.
    parts: BTreeMap<u64, Painted>,
}

#[derive(Clone)]
struct Painted {
    end: u64,
    /// `None` is painted normal.
    kind: Option<FieldKind>,
    path: String,
    origin: Origin,
}

impl Canvas {
    fn paint(&mut self, p: &Placed<'_>) {
        let (path, origin) = (p.field.path.clone(), p.field.origin.clone());
        self.put(p.offset, p.offset + p.size, p.field.kind, path, origin);
    }

    fn paint_rule(&mut self, rule: FieldRule) {
        let end = rule.offset + rule.size;
        self.put(rule.offset, end, Some(rule.kind), rule.field, rule.origin);
    }

    fn put(&mut self, start: u64, end: u64, kind: Option<FieldKind>, path: String, origin: Origin) {
        if start >= end {
            return;
        }
        self.cut(start);
        self.cut(end);
        while let Some((&covered, _)) = self.parts.range(start..end).next() {
            self.parts.remove(&covered);
        }
        let part = Painted {
            end,
            kind,
            path,
            origin,
        };
        self.parts.insert(start, part);
    }

    /// Divides the part that goes across `at`.
    fn cut(&mut self, at: u64) {
        if let Some((_, part)) = self.parts.range_mut(..at).next_back() {
            if part.end > at {
                let rest = part.clone();
                part.end = at;
                self.parts.insert(at, rest);
            }
        }
    }

    fn finish(mut self, tail: Option<u64>) -> Vec<FieldRule> {
        if let Some(tail) = tail {
            let last = self.parts.range_mut(..=tail).next_back();
            if let Some((&start, part)) = last.filter(|(_, part)| tail < part.end) {
                part.end = u64::MAX;
                self.parts.split_off(&(start + 1));
            }
        }
        self.parts
            .into_iter()
            .filter_map(|(offset, part)| {
                Some(FieldRule {
                    offset,
                    size: part.end - offset,
                    kind: part.kind?,
                    field: part.path,
                    origin: part.origin,
                })
            })
            .collect()
    }
}
