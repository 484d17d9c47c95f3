//! What a field, a global, or the memory that a function touches is.

use std::fmt;

/// How accesses to annotated memory differ from accesses to shared mutable memory.
///
/// Memory without a kind ("normal") is read under a read lock and written under a write lock with
/// undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FieldKind {
    /// Not written after publication: reads are free; a write to memory that is not fresh makes the
    /// transaction exclusive.
    Immutable,
    /// Touched by one thread only: reads are free, writes are undone but take no lock.
    Private,
    /// Written while one thread knows of it, also when its memory is used once more: reads are free,
    /// writes are locked and undone.
    Recycled,
    /// A reference count: changes never conflict and are merged at commit.
    Refcount,
    /// A statistic: as a reference count, without the deallocation at zero.
    Counter,
    /// An allocator of ids or versions: atomic, never undone.
    Unique,
    /// A hint: plain access, never undone.
    Racy,
    /// Every thread has a copy of its own.
    PerThread,
}

impl FieldKind {
    pub const ALL: [FieldKind; 8] = [
        FieldKind::Immutable,
        FieldKind::Private,
        FieldKind::Recycled,
        FieldKind::Refcount,
        FieldKind::Counter,
        FieldKind::Unique,
        FieldKind::Racy,
        FieldKind::PerThread,
    ];

    /// The word for it in sets and in `ame:` attributes.
    pub fn as_str(self) -> &'static str {
        match self {
            FieldKind::Immutable => "immutable",
            FieldKind::Private => "private",
            FieldKind::Recycled => "recycled",
            FieldKind::Refcount => "refcount",
            FieldKind::Counter => "counter",
            FieldKind::Unique => "unique",
            FieldKind::Racy => "racy",
            FieldKind::PerThread => "per_thread",
        }
    }

    /// The reverse of [`FieldKind::as_str`].
    pub fn from_word(word: &str) -> Option<FieldKind> {
        FieldKind::ALL.into_iter().find(|k| k.as_str() == word)
    }

    /// Only whole integers can be counted or handed out; such kinds are refused for whole structs.
    pub fn needs_integer(self) -> bool {
        matches!(
            self,
            FieldKind::Refcount | FieldKind::Counter | FieldKind::Unique
        )
    }
}

impl fmt::Display for FieldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The word that takes an annotation back: `"normal"`.
pub const NORMAL: &str = "normal";

/// All words that a field may have, for error messages.
pub(crate) fn words() -> String {
    let kinds: Vec<&str> = FieldKind::ALL.iter().map(|k| k.as_str()).collect();
    format!("{}, {NORMAL}", kinds.join(", "))
}

/// A kind, or `normal` as `None`; `Err` for any other word.
pub(crate) fn parse_or_normal(word: &str) -> Result<Option<FieldKind>, ()> {
    if word == NORMAL {
        return Ok(None);
    }
    FieldKind::from_word(word).map(Some).ok_or(())
}
