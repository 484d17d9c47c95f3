//! What a function is, and which memory a call of it touches.

use crate::kind::FieldKind;
use crate::sets::Origin;
use std::fmt;

/// How a call is treated in a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FunctionKind {
    /// Nothing special: instrumented if it has a body, else decided by what its target is.
    #[default]
    Normal,
    /// Touches no memory that transactions share, except the ranges of `reads` and `writes`.
    Pure,
    /// Handles transactions itself: its body is not instrumented, calling it is always allowed.
    Safe,
    /// Its effect cannot be undone: the caller becomes inevitable.
    Inevitable,
    /// Must run alone.
    Exclusive,
    /// The transaction is committed before the call and begun again after it.
    Boundary,
}

impl FunctionKind {
    pub const ALL: [FunctionKind; 6] = [
        FunctionKind::Normal,
        FunctionKind::Pure,
        FunctionKind::Safe,
        FunctionKind::Inevitable,
        FunctionKind::Exclusive,
        FunctionKind::Boundary,
    ];

    /// The word for it in sets and in `ame:` attributes.
    pub fn as_str(self) -> &'static str {
        match self {
            FunctionKind::Normal => "normal",
            FunctionKind::Pure => "pure",
            FunctionKind::Safe => "safe",
            FunctionKind::Inevitable => "inevitable",
            FunctionKind::Exclusive => "exclusive",
            FunctionKind::Boundary => "boundary",
        }
    }

    /// The reverse of [`FunctionKind::as_str`].
    pub fn from_word(word: &str) -> Option<FunctionKind> {
        FunctionKind::ALL.into_iter().find(|k| k.as_str() == word)
    }
}

impl fmt::Display for FunctionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Length in bytes of a [`Range`]. Argument numbers start at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Len {
    /// The value of an argument.
    Arg(u32),
    /// A number of bytes.
    Const(u64),
    /// The product of two arguments (`fread`: size times count).
    Product(u32, u32),
    /// An argument times a number of bytes (`wmemcpy`: count of 4-byte characters).
    Scaled(u32, u64),
    /// Up to and including the terminating zero byte, but at most the value of an argument.
    CString(Option<u32>),
}

/// Memory that a call reads or writes: `len` bytes from the pointer in argument `arg`. A null
/// pointer means no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    pub arg: u32,
    pub len: Len,
}

impl Range {
    /// Parses `ARG,LEN`, the text of `reads`, `writes`, `AME_READS` and `AME_WRITES`: LEN is `2`
    /// (argument 2), `16 bytes`, `1*2` (product of arguments), `2*4 bytes`, `string` (to the
    /// terminating zero), or `string 2` (the same, at most argument 2 bytes).
    ///
    /// The error says what is wrong; it has no location.
    pub fn parse(text: &str) -> Result<Range, String> {
        let (arg, len) = text
            .split_once(',')
            .ok_or("a range is \"ARG, LEN\": the number of the pointer argument, and a length")?;
        Ok(Range {
            arg: number(arg.trim())?,
            len: parse_len(len.trim())?,
        })
    }

    /// The arguments that the range needs.
    pub fn args(&self) -> impl Iterator<Item = u32> {
        let (a, b) = match self.len {
            Len::Arg(a) | Len::Scaled(a, _) => (Some(a), None),
            Len::Product(a, b) => (Some(a), Some(b)),
            Len::CString(max) => (max, None),
            Len::Const(_) => (None, None),
        };
        [Some(self.arg), a, b].into_iter().flatten()
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a number (arguments are counted from 0)"))
}

fn parse_len(text: &str) -> Result<Len, String> {
    if let Some(max) = text.strip_prefix("string") {
        let max = max.trim();
        return Ok(Len::CString(if max.is_empty() {
            None
        } else {
            Some(number(max)?)
        }));
    }
    let bytes = |t: &str| t.strip_suffix("bytes").map(|n| n.trim().to_owned());
    match text.split_once('*') {
        Some((a, b)) => {
            let a = number(a.trim())?;
            match bytes(b.trim()) {
                Some(n) => Ok(Len::Scaled(a, number(&n)?)),
                None => Ok(Len::Product(a, number(b.trim())?)),
            }
        }
        None => match bytes(text) {
            Some(n) => Ok(Len::Const(number(&n)?)),
            None => Ok(Len::Arg(number(text)?)),
        },
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, ", self.arg)?;
        match self.len {
            Len::Arg(a) => write!(f, "{a}"),
            Len::Const(n) => write!(f, "{n} bytes"),
            Len::Product(a, b) => write!(f, "{a}*{b}"),
            Len::Scaled(a, n) => write!(f, "{a}*{n} bytes"),
            Len::CString(None) => write!(f, "string"),
            Len::CString(Some(max)) => write!(f, "string {max}"),
        }
    }
}

/// What sets say about a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionRule {
    pub kind: FunctionKind,
    /// In instrumented code this symbol is called instead, with the same arguments.
    pub replace: Option<String>,
    /// Whether plain clones call the replacement as well, or the function itself.
    pub replace_in_clones: bool,
    /// Whether pointers to the function become pointers to the replacement. Not where other code compares them.
    pub replace_pointers: bool,
    /// Memory read by a call of a function that has no instrumented body.
    pub reads: Vec<Range>,
    /// Memory written by such a call.
    pub writes: Vec<Range>,
    /// All memory accesses in the function's own body, as written, have this kind. It precedes the
    /// kinds of fields, except `refcount`, `counter`, `unique` and `per_thread`. (CPython's
    /// `PyTuple_GET_SIZE` has its access in `Py_SIZE`, which other functions share: the rule takes
    /// effect where that call has been inlined first.)
    pub accesses: Option<FieldKind>,
    /// Memory accessed directly through the pointer that the function returns has this kind, also
    /// after arithmetic on the pointer and by way of local variables that hold nothing else.
    pub returns: Option<FieldKind>,
    /// The address that the function returns is a multiple of this.
    pub align: Option<u64>,
    /// Whether loops of the function without a barrier look whether the transaction is wanted. Not
    /// needed where they look at something else that makes them end it.
    pub polls: bool,
    /// No transaction ends or begins during a call, so what the caller holds before it, it holds after it.
    pub quiet: bool,
    /// The result is memory that the runtime's allocator has just given out, aligned to 16 bytes, and that
    /// nobody else knows. Such functions are quiet.
    pub allocates: bool,
    /// Whether headers declare it. The symbols of the compiler and of redirections (`open64`) may
    /// appear in the IR without a declaration, so the check does not ask for one.
    pub declared: bool,
    pub origin: Origin,
}
