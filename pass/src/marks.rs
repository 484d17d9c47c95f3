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

/// The same for the memory that pointer arguments of a call point to, by position. Not as access groups:
/// the optimiser gives that of a copy to both the load and the store that it makes of it.
const ARGUMENTS: [&str; 2] = ["ame.0", "ame.1"];

/// Kind of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    #[default]
    Normal,
    Immutable,
    Private,
    Recycled,
    Racy,
    /// Made by the tag phase in place of another access: no barrier.
    Plain,
}

/// The kinds that are marked: the word of each, and by position its access group.
const MARKED: [(Kind, &str); 5] = [
    (Kind::Immutable, "immutable"),
    (Kind::Private, "private"),
    (Kind::Racy, "racy"),
    (Kind::Plain, "plain"),
    (Kind::Recycled, "recycled"),
];

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
    arguments: [u32; 2],
    known: FxHashMap<Value, Mark>,
}

impl Marks {
    pub fn new(module: Module) -> Marks {
        Marks {
            module,
            kind: module.metadata_kind(KIND),
            arguments: ARGUMENTS.map(|name| module.metadata_kind(name)),
            known: FxHashMap::default(),
        }
    }

    pub fn of(&mut self, access: Value) -> Mark {
        let Some(node) = access.metadata(self.kind) else {
            // Merged with another access of the same kind: the kind stays, as an access group.
            let group = access.is_instruction().then(|| access.access_group());
            let marked = group.flatten().and_then(|n| MARKED.get(n as usize));
            return Mark {
                kind: marked.map_or(Kind::Normal, |(kind, _)| *kind),
                residue: None,
            };
        };
        self.parse(node)
    }

    /// The mark of what an argument of a call points to.
    pub fn of_argument(&mut self, call: Value, argument: u32) -> Mark {
        let kind = self.arguments.get(argument as usize);
        let node = kind.and_then(|&kind| call.metadata(kind));
        node.map_or(Mark::default(), |node| self.parse(node))
    }

    pub fn set_argument(&self, call: Value, argument: u32, kind: Kind) {
        let word = MARKED.iter().find(|m| m.0 == kind);
        if let (Some((_, word)), Some(&id)) = (word, self.arguments.get(argument as usize)) {
            call.set_metadata(id, self.module.string_node(&[word]));
        }
    }

    fn parse(&mut self, node: Value) -> Mark {
        if let Some(&known) = self.known.get(&node) {
            return known;
        }
        let mut mark = Mark::default();
        let mut words = node.node_operands().into_iter().flatten();
        while let Some(word) = words.next().and_then(|v| v.metadata_string()) {
            if word == "at" {
                mark.residue = words.next().and_then(|v| v.metadata_string()?.parse().ok());
            } else if let Some((kind, _)) = MARKED.iter().find(|m| m.1 == word) {
                mark.kind = *kind;
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
        let group = MARKED.iter().position(|m| m.0 == mark.kind);
        if let Some(group) = group {
            words.push(MARKED[group].1);
            if access.is_instruction() {
                access.set_access_group(group as u32);
            }
        }
        if let Some(r) = mark.residue {
            residue = r.to_string();
            words.push("at");
            words.push(&residue);
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
        FieldKind::Recycled => Some(Kind::Recycled),
        FieldKind::Racy => Some(Kind::Racy),
        _ => None,
    }
}
