//! The plan of a function: what will be inserted where. Choosing fills it, rewriting applies it.

use crate::analysis::address::Address;
use crate::ffi::Value;
use ame_abi::GRANULE;

/// What an access does to its memory, as the runtime sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Mode {
    Read,
    Write,
    /// Write to a field of kind `immutable`.
    Immutable,
    /// Write to memory of one thread: undo, no lock.
    Private,
}

/// Where in the function. Instructions of a block are numbered from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Place {
    pub block: u32,
    pub position: u32,
    /// What is inserted goes before this instruction.
    pub at: Value,
}

/// A barrier for an access of known, small size: one or more inline checks.
#[derive(Clone, Debug)]
pub struct Barrier {
    pub place: Place,
    pub mode: Mode,
    /// Computes the address of the access.
    pub pointer: Value,
    /// What it accesses.
    pub piece: Piece,
    pub dropped: Option<Skip>,
    /// Set when the barrier has moved: the address is to be computed anew.
    pub moved: bool,
    /// Further private memory that this one covers.
    pub also: Vec<Piece>,
    /// In a loop of a function of moderate size: worth more code.
    pub hot: bool,
}

/// Memory of known, small size.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub address: Address,
    pub size: u64,
    /// In bytes.
    pub align: u64,
    /// Address modulo 16, where known.
    pub residue: Option<u8>,
}

impl Piece {
    pub fn check_offsets(&self) -> Vec<u64> {
        check_offsets(self.size, self.align, self.residue)
    }

    /// Joins those that lie side by side. What is between pieces may be no private memory, and stays out.
    pub fn joined(mut pieces: Vec<Piece>) -> Vec<Piece> {
        let mut out: Vec<Piece> = Vec::new();
        while !pieces.is_empty() {
            let base = pieces[0].address.base;
            let (mut same, others): (Vec<_>, Vec<_>) =
                pieces.into_iter().partition(|p| p.address.base == base);
            same.sort_by_key(|p| p.address.offset);
            let start = out.len();
            for piece in same {
                match out[start..].last_mut() {
                    Some(last) if piece.address.offset <= last.end() => {
                        last.size = (piece.end().max(last.end()) - last.address.offset) as u64;
                    }
                    _ => out.push(piece),
                }
            }
            pieces = others;
        }
        out
    }

    fn end(&self) -> i64 {
        self.address.offset + self.size as i64
    }
}

/// Offsets of bytes to check, so that every granule that `size` bytes may touch is checked.
pub fn check_offsets(size: u64, align: u64, residue: Option<u8>) -> Vec<u64> {
    let granule = GRANULE as u64;
    let last = size - 1;
    let (mut offsets, step_start) = match residue {
        // Exactly one byte of each granule.
        Some(r) => (vec![0], granule - u64::from(r)),
        None => {
            // Unless the granule of the first byte surely holds all: every 16th byte, and the last.
            if size <= align.min(granule) {
                return vec![0];
            }
            (vec![0], granule)
        }
    };
    let mut at = step_start;
    while at <= last {
        offsets.push(at);
        at += granule;
    }
    if residue.is_none() && align < granule && offsets.last() != Some(&last) {
        offsets.push(last);
    }
    offsets
}

/// Length of a range.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    Bytes(u64),
    Value(Value),
    Product(Value, Value),
    Scaled(Value, u64),
    /// Up to and including the terminating zero, at most the value.
    Text(Option<Value>),
}

/// Anything else that is inserted.
#[derive(Clone, Debug)]
pub enum Action {
    /// Barrier for a range, when in a transaction.
    Range {
        mode: Mode,
        pointer: Value,
        length: Length,
    },
    /// The same for the lanes of a vector whose mask bit is set. `pointer` is one pointer, the
    /// lanes lying `stride` bytes apart, or a vector of pointers.
    Lanes(Lanes),
    /// Range whose length is the number of set mask bits times `stride`.
    Packed(Lanes),
    /// A range computed from a counted loop.
    Stream {
        mode: Mode,
        stream: super::stream::Stream,
    },
    Poll,
    /// Run-time check whether `target` is instrumented.
    Check {
        target: Value,
    },
    Inevitable,
    Exclusive,
    BoundaryEnter,
    BoundaryLeave,
}

/// A vector access with a mask.
#[derive(Clone, Copy, Debug)]
pub struct Lanes {
    pub mode: Mode,
    pub pointer: Value,
    pub mask: Value,
    pub count: u32,
    pub stride: u64,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub place: Place,
    pub action: Action,
}

/// Why an access has no barrier of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Skip {
    Stack,
    Constant,
    ThreadLocal,
    Immutable,
    Private,
    Recycled,
    Racy,
    Replaced,
    Invariant,
    Fresh,
    Redundant,
    Granule,
    Upgraded,
    Hoisted,
    Ranged,
    AddressSpace,
    /// Logged together with an earlier private write.
    Together,
}

impl Skip {
    pub const ALL: [Skip; 17] = [
        Skip::Stack,
        Skip::Constant,
        Skip::ThreadLocal,
        Skip::Immutable,
        Skip::Private,
        Skip::Recycled,
        Skip::Racy,
        Skip::Replaced,
        Skip::Invariant,
        Skip::Fresh,
        Skip::Redundant,
        Skip::Granule,
        Skip::Upgraded,
        Skip::Hoisted,
        Skip::Ranged,
        Skip::AddressSpace,
        Skip::Together,
    ];

    /// Word for it in statistics and remarks.
    pub fn word(self) -> &'static str {
        match self {
            Skip::Stack => "stack",
            Skip::Constant => "constant",
            Skip::ThreadLocal => "thread_local",
            Skip::Immutable => "immutable",
            Skip::Private => "private",
            Skip::Recycled => "recycled",
            Skip::Racy => "racy",
            Skip::Replaced => "replaced",
            Skip::Invariant => "invariant",
            Skip::Fresh => "fresh",
            Skip::Redundant => "redundant",
            Skip::Granule => "granule",
            Skip::Upgraded => "upgraded",
            Skip::Hoisted => "hoisted",
            Skip::Ranged => "ranged",
            Skip::AddressSpace => "address_space",
            Skip::Together => "together",
        }
    }

    pub fn sentence(self) -> &'static str {
        match self {
            Skip::Stack => "stack memory whose address does not leave the function",
            Skip::Constant => "constant memory",
            Skip::ThreadLocal => "thread-local variable",
            Skip::Immutable => "field of kind immutable is read",
            Skip::Private => "memory of kind private is read",
            Skip::Recycled => "field of kind recycled is read",
            Skip::Racy => "memory of kind racy",
            Skip::Replaced => "the tag phase has replaced the access",
            Skip::Invariant => "the compiler knows that the memory never changes",
            Skip::Fresh => "allocated since the last possible transaction boundary",
            Skip::Redundant => "an earlier barrier covers it",
            Skip::Granule => "an earlier barrier on the same granule covers it",
            Skip::Upgraded => "the write that follows has its barrier here",
            Skip::Hoisted => "the barrier is in front of the loop",
            Skip::Ranged => "a range barrier in front of the loop covers it",
            Skip::Together => "logged together with an earlier private write",
            Skip::AddressSpace => "not in address space 0",
        }
    }
}

/// All that will happen to one function.
#[derive(Default)]
pub struct Plan {
    pub barriers: Vec<Barrier>,
    pub steps: Vec<Step>,
    /// Calls that the tag phase has made, in cold blocks: they become calls of stubs.
    pub counts: Vec<Value>,
    /// The function has values that live in vector registers.
    pub floats: bool,
}
