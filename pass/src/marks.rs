//! `!ame` metadata: how the tag phase hands the kinds of accesses to the instrument phase.
//!
//! A node holds words: a kind, or `at` and a number, the address modulo 16. An optimisation that
//! drops it makes the access an ordinary one, which is slower and never wrong. Kinds whose meaning
//! must not be lost (`refcount`, `counter`, `unique`, `per_thread`) never become metadata: the tag
//! phase replaces those accesses.
//!
//! LLVM drops metadata that it does not know when it merges equal instructions, which it does with
//! most loads and stores of an interpreter's loop. So each kind is an access group as well.

use crate::ffi::{Module, Value};
use ame_annotations::FieldKind;
use rustc_hash::FxHashMap;

pub const KIND: &str = "ame";

/// Kind of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    #[default]
    Normal,
    Immutable,
    Private,
    Racy,
    /// Made by the tag phase in place of another access: no barrier.
    Plain,
}

/// What an access is marked with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    pub kind: Kind,
    pub residue: Option<u8>,
}

/// Reads and writes marks; equal nodes are parsed once.
pub struct Marks {
    module: Module,
    kind: u32,
    known: FxHashMap<Value, Mark>,
}

impl Marks {
    pub fn new(module: Module) -> Marks {
        Marks {
            module,
            kind: module.metadata_kind(KIND),
            known: FxHashMap::default(),
        }
    }

    pub fn of(&mut self, access: Value) -> Mark {
        let Some(node) = access.metadata(self.kind) else {
            // Merged with another access of the same kind: the kind stays, as an access group.
            let kind = match access
                .is_instruction()
                .then(|| access.access_group())
                .flatten()
            {
                Some(0) => Kind::Immutable,
                Some(1) => Kind::Private,
                Some(2) => Kind::Racy,
                Some(3) => Kind::Plain,
                _ => Kind::Normal,
            };
            return Mark {
                kind,
                residue: None,
            };
        };
        if let Some(&known) = self.known.get(&node) {
            return known;
        }
        let mut mark = Mark::default();
        let mut words = node.node_operands().into_iter().flatten();
        while let Some(word) = words.next().and_then(|v| v.metadata_string()) {
            match word {
                "immutable" => mark.kind = Kind::Immutable,
                "private" => mark.kind = Kind::Private,
                "racy" => mark.kind = Kind::Racy,
                "plain" => mark.kind = Kind::Plain,
                "at" => {
                    mark.residue = words.next().and_then(|v| v.metadata_string()?.parse().ok());
                }
                _ => {}
            }
        }
        self.known.insert(node, mark);
        mark
    }

    /// The mark of an access that is no load or store.
    pub fn of_known(&mut self, access: Value) -> Mark {
        let mark = self.of(access);
        Mark {
            residue: None,
            ..mark
        }
    }

    pub fn set(&self, access: Value, mark: Mark) {
        let residue;
        let mut words = Vec::new();
        match mark.kind {
            Kind::Normal => {}
            Kind::Immutable => words.push("immutable"),
            Kind::Private => words.push("private"),
            Kind::Racy => words.push("racy"),
            Kind::Plain => words.push("plain"),
        }
        if let Some(r) = mark.residue {
            residue = r.to_string();
            words.push("at");
            words.push(&residue);
        }
        let group = match mark.kind {
            Kind::Normal => None,
            Kind::Immutable => Some(0),
            Kind::Private => Some(1),
            Kind::Racy => Some(2),
            Kind::Plain => Some(3),
        };
        if let Some(group) = group.filter(|_| access.is_instruction()) {
            access.set_access_group(group);
        }
        if !words.is_empty() {
            access.set_metadata(self.kind, self.module.string_node(&words));
        }
    }
}

/// The mark that stands for a kind, if it is one that metadata may carry.
pub fn of_field(kind: FieldKind) -> Option<Kind> {
    match kind {
        FieldKind::Immutable => Some(Kind::Immutable),
        FieldKind::Private => Some(Kind::Private),
        FieldKind::Racy => Some(Kind::Racy),
        _ => None,
    }
}
