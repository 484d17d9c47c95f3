//! Everything that the headers and sources of a check declare, by name.

use super::clang::{Cursor, CursorKind, Type, Unit};
use std::collections::{HashMap, HashSet};

/// Declarations of several units. The first definition of a name counts.
#[derive(Default)]
pub(super) struct Declarations<'u> {
    /// Complete structs and unions by tag, nameless ones by their typedef.
    pub records: HashMap<String, Type<'u>>,
    /// Tag by identity: what the type of a member is called.
    names: HashMap<String, String>,
    /// Typedefs of structs that have a tag of their own, for better errors.
    pub aliases: HashMap<String, String>,
    /// By name and by symbol.
    pub functions: HashMap<String, Type<'u>>,
    /// Variables, also `function.variable` for the static ones of functions.
    pub globals: HashSet<String>,
}

impl<'u> Declarations<'u> {
    pub fn add(&mut self, unit: &'u Unit) {
        for cursor in unit.declarations() {
            self.declaration(cursor);
        }
    }

    fn declaration(&mut self, cursor: Cursor<'u>) {
        match cursor.kind() {
            CursorKind::Record => self.record(cursor),
            CursorKind::Typedef => self.typedef(cursor),
            CursorKind::Function => {
                self.functions.entry(cursor.symbol()).or_insert(cursor.ty());
                self.functions.entry(cursor.name()).or_insert(cursor.ty());
                self.statics_of(&cursor.name(), cursor);
            }
            CursorKind::Variable => {
                self.globals.insert(cursor.name());
                self.nested(cursor);
            }
            CursorKind::Field | CursorKind::Other => {}
        }
    }

    fn record(&mut self, cursor: Cursor<'u>) {
        let name = cursor.name();
        if is_name(&name) && cursor.ty().size_and_align().is_some() {
            self.names.insert(cursor.identity(), name.clone());
            self.records.entry(name).or_insert(cursor.ty());
        }
        self.nested(cursor);
    }

    /// A struct defined inside another, or in a variable's declaration, has file scope in C.
    fn nested(&mut self, cursor: Cursor<'u>) {
        let children = cursor.children().into_iter();
        for child in children.filter(|c| c.kind() == CursorKind::Record) {
            self.record(child);
        }
    }

    fn typedef(&mut self, cursor: Cursor<'u>) {
        let (name, ty) = (cursor.name(), cursor.typedef_of());
        let Some(record) = ty.record() else {
            return;
        };
        self.nested(cursor);
        let tag = record.name();
        if is_name(&tag) && tag != name {
            self.aliases.insert(name, tag);
        } else if ty.size_and_align().is_some() {
            self.names.entry(record.identity()).or_insert(name.clone());
            self.records.entry(name).or_insert(ty);
        }
    }

    fn statics_of(&mut self, function: &str, cursor: Cursor<'u>) {
        for child in cursor.children() {
            if child.kind() == CursorKind::Variable && child.is_static() {
                self.globals.insert(format!("{function}.{}", child.name()));
            } else if child.kind() == CursorKind::Record {
                self.record(child);
            }
            self.statics_of(function, child);
        }
    }

    /// The name under which a struct type is registered.
    pub fn name_of(&self, ty: Type<'u>) -> Option<&str> {
        let record = ty.record()?;
        self.names.get(&record.identity()).map(String::as_str)
    }
}

/// Nameless records are spelled with their place in parentheses, or not at all.
fn is_name(spelling: &str) -> bool {
    !spelling.is_empty() && !spelling.contains(['(', ' '])
}
