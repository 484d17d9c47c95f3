//! What a call does to transactions, by its callee.
//!
//! A rule comes from an attribute that the tag phase has left on the function, else from the
//! annotation sets, else from what LLVM knows about the function.

use crate::attributes;
use crate::ffi::{attribute_kind, Value};
use crate::instrument::runtime::COUNT_MARKER;
use ame_annotations::{FunctionKind, Range, Sets};
use rustc_hash::{FxHashMap, FxHashSet};
use std::rc::Rc;

/// How a call is treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Treatment {
    /// An intrinsic without memory accesses that matter.
    Nothing,
    /// One of the memory intrinsics; the instrumenter looks at it closely.
    Memory(Intrinsic),
    /// An intrinsic that accesses memory in a way unknown to the pass.
    UnknownIntrinsic,
    /// A body that is instrumented too, or one that handles transactions itself.
    Free,
    /// Not known to be instrumented: decided at run time.
    Check,
    Inevitable,
    Exclusive,
    Boundary,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Intrinsic {
    Copy,
    Set,
    MaskedLoad,
    MaskedStore,
    Gather,
    Scatter,
    ExpandLoad,
    CompressStore,
}

/// Memory allocators whose result is fresh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allocator {
    /// Alignment of every result.
    pub align: u64,
}

/// All that matters about a callee.
#[derive(Clone, Debug)]
pub struct Callee {
    pub treatment: Treatment,
    pub reads: Vec<Range>,
    pub writes: Vec<Range>,
    /// A transaction may end or begin during the call.
    pub kills: bool,
    /// The call begins a transaction in the caller.
    pub begins: bool,
    pub returns_twice: bool,
    pub allocator: Option<Allocator>,
    /// The marker of a counting function.
    pub is_count: bool,
}

impl Callee {
    fn new(treatment: Treatment, kills: bool) -> Callee {
        Callee {
            treatment,
            reads: Vec::new(),
            writes: Vec::new(),
            kills,
            begins: false,
            returns_twice: false,
            allocator: None,
            is_count: false,
        }
    }
}

/// Answers for the callees of one module; each is worked out once.
pub struct Callees<'a> {
    sets: &'a Sets,
    known: FxHashMap<Value, Rc<Callee>>,
    /// Functions with bodies that cannot end or begin a transaction.
    quiet: FxHashSet<Value>,
    indirect: Rc<Callee>,
    returns_twice: u32,
    /// Every call may be made as it is, and leaves barriers valid.
    pub prepared: bool,
}

impl<'a> Callees<'a> {
    pub fn new(sets: &'a Sets) -> Callees<'a> {
        Callees {
            sets,
            known: FxHashMap::default(),
            quiet: FxHashSet::default(),
            indirect: Rc::new(Callee::new(Treatment::Check, true)),
            returns_twice: attribute_kind("returns_twice"),
            prepared: false,
        }
    }

    /// For bodies of extensions: their calls have been seen to. A transaction that ends in one is the last of its
    /// function, after which no barrier matters.
    pub fn prepared(sets: &'a Sets) -> Callees<'a> {
        Callees {
            indirect: Rc::new(Callee::new(Treatment::Free, false)),
            prepared: true,
            ..Callees::new(sets)
        }
    }

    /// Declares functions that [`crate::analysis`] has shown to be free of boundaries.
    pub fn set_quiet(&mut self, quiet: FxHashSet<Value>) {
        self.known.retain(|f, _| !quiet.contains(f));
        self.quiet = quiet;
    }

    /// The callee of a call or invoke; `None` for inline assembly.
    pub fn of(&mut self, call: Value) -> Option<Rc<Callee>> {
        let mut target = call.callee();
        while target.is_alias() {
            target = target.aliasee();
        }
        if target.is_inline_asm() {
            return None;
        }
        if !target.is_function() {
            return Some(self.indirect.clone());
        }
        if let Some(known) = self.known.get(&target) {
            return Some(known.clone());
        }
        let callee = Rc::new(self.work_out(target));
        self.known.insert(target, callee.clone());
        Some(callee)
    }

    fn work_out(&self, function: Value) -> Callee {
        let name = function.name();
        if let Some(name) = name.strip_prefix("llvm.") {
            return intrinsic(name, function);
        }
        let mut callee = self.rule(function, name);
        if self.prepared {
            callee = Callee {
                treatment: Treatment::Free,
                kills: false,
                begins: false,
                ..callee
            };
        }
        callee.returns_twice = function.function_has(self.returns_twice);
        if self.quiet.contains(&function) {
            callee.kills = false;
        }
        let rule = attributes::rule(function, self.sets);
        let (quiet, allocates) = rule.map_or((false, false), |r| (r.quiet, r.allocates));
        // Whatever else a set says, these end or begin one.
        if callee.treatment != Treatment::Boundary && !callee.begins {
            callee.kills &= !quiet;
        }
        if allocates || is_allocator(name) {
            callee.allocator = Some(Allocator { align: 16 });
        }
        callee
    }

    fn rule(&self, function: Value, name: &str) -> Callee {
        if is_runtime(name) {
            let mut callee = Callee::new(Treatment::Free, !is_quiet_runtime(name));
            callee.is_count = name.starts_with(COUNT_MARKER);
            callee.begins = matches!(name, "ame_begin" | "ame_boundary_leave");
            return callee;
        }
        let body = !function.is_declaration();
        let rule = attributes::rule(function, self.sets);
        if let Some(rule) = rule {
            let has_ranges = !rule.reads.is_empty() || !rule.writes.is_empty();
            let treatment = match rule.kind {
                FunctionKind::Pure => Some((Treatment::Free, false)),
                FunctionKind::Safe => Some((Treatment::Free, true)),
                FunctionKind::Inevitable if !body => Some((Treatment::Inevitable, true)),
                FunctionKind::Exclusive if !body => Some((Treatment::Exclusive, true)),
                FunctionKind::Boundary => Some((Treatment::Boundary, true)),
                FunctionKind::Normal if has_ranges && !body => Some((Treatment::Free, false)),
                _ => None,
            };
            if let Some((treatment, kills)) = treatment {
                let mut callee = Callee::new(treatment, kills);
                if !body {
                    callee.reads = rule.reads.clone();
                    callee.writes = rule.writes.clone();
                }
                return callee;
            }
        }
        if body {
            return Callee::new(Treatment::Free, true);
        }
        // Neither argument nor other memory, says the declaration or LLVM's library knowledge.
        if function.memory_effects() & 0b11_00_11 == 0 {
            return Callee::new(Treatment::Free, false);
        }
        if self.sets.is_instrumented(name) {
            return Callee::new(Treatment::Free, true);
        }
        Callee::new(Treatment::Check, true)
    }
}

/// Symbols of the runtime's two headers: they handle transactions themselves.
pub fn is_runtime(name: &str) -> bool {
    name.starts_with("ame_") || name.starts_with(COUNT_MARKER)
}

/// Those of them that neither begin nor end a transaction.
fn is_quiet_runtime(name: &str) -> bool {
    const LOUD: [&str; 12] = [
        "ame_begin",
        "ame_commit",
        "ame_atomic",
        "ame_retry",
        "ame_boundary",
        "ame_domain",
        "ame_exclusive",
        "ame_py",
        // A wait commits and begins again; a comparison may do anything.
        "ame_pthread_cond_",
        "ame_cnd_",
        "ame_qsort",
        "ame_bsearch",
    ];
    !LOUD.iter().any(|p| name.starts_with(p))
}

/// Only the runtime's own free the block when the transaction is rolled back.
fn is_allocator(name: &str) -> bool {
    matches!(name, "ame_malloc" | "ame_calloc")
}

fn intrinsic(name: &str, function: Value) -> Callee {
    const HARMLESS: [&str; 35] = [
        "lifetime.",
        "dbg.",
        "assume",
        "invariant.",
        "expect",
        "prefetch",
        "sideeffect",
        "experimental.noalias",
        "pseudoprobe",
        "trap",
        "debugtrap",
        "ubsantrap",
        "var.annotation",
        "stacksave",
        "stackrestore",
        "eh.",
        "frameaddress",
        "returnaddress",
        "va_start",
        "va_end",
        "va_copy",
        "donothing",
        "threadlocal.address",
        "fake.use",
        "instrprof",
        "localescape",
        "x86.rdtsc",
        "x86.rdpmc",
        "x86.sse2.pause",
        "x86.sse2.mfence",
        "x86.sse2.lfence",
        "x86.sse.sfence",
        "x86.rdrand",
        "x86.rdseed",
        "readcyclecounter",
    ];
    let memory = |kind| Callee::new(Treatment::Memory(kind), false);
    if name.starts_with("memcpy") || name.starts_with("memmove") {
        return memory(Intrinsic::Copy);
    }
    if name.starts_with("memset") {
        return memory(Intrinsic::Set);
    }
    if let Some(rest) = name.strip_prefix("masked.") {
        for (start, kind) in [
            ("load", Intrinsic::MaskedLoad),
            ("store", Intrinsic::MaskedStore),
            ("gather", Intrinsic::Gather),
            ("scatter", Intrinsic::Scatter),
            ("expandload", Intrinsic::ExpandLoad),
            ("compressstore", Intrinsic::CompressStore),
        ] {
            if rest.starts_with(start) {
                return memory(kind);
            }
        }
    }
    if HARMLESS.iter().any(|p| name.starts_with(p)) || function.memory_effects() & 0b11_00_11 == 0 {
        return Callee::new(Treatment::Nothing, false);
    }
    Callee::new(Treatment::UnknownIntrinsic, false)
}
