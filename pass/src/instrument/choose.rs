//! Chooses the barriers of a function. Nothing here changes IR.

use super::plan::*;
use crate::analysis::address::{root, Addresses, Memory};
use crate::analysis::cfg::Cfg;
use crate::attributes;
use crate::callee::{Callee, Callees, Intrinsic, Treatment};
use crate::ffi::{attribute_kind, Module, Opcode, Value};
use crate::marks::{Mark, Marks};
use crate::report::Report;
use ame_annotations::{FunctionKind, Len, Range, Sets};

/// Accesses of at most this many bytes are checked inline, larger ones by a call.
const INLINE_BYTES: u64 = 32;

/// Numbers of the attributes and metadata that choosing looks at.
pub struct Kinds {
    byval: u32,
    invariant_load: u32,
    tbaa: u32,
}

impl Kinds {
    pub fn new(module: Module) -> Kinds {
        Kinds {
            byval: attribute_kind("byval"),
            invariant_load: module.metadata_kind("invariant.load"),
            tbaa: module.metadata_kind("tbaa"),
        }
    }
}

/// What choosing finds out about a function besides the plan.
#[derive(Default)]
pub struct Facts {
    /// Positions of the calls of each block that may end a transaction.
    pub kills: Vec<Vec<u32>>,
    /// Calls of allocators: the value, where, and the alignment.
    pub fresh: Vec<(Value, Place, u64)>,
    /// Blocks with calls that may be a recursion.
    pub calls: Vec<u32>,
}

/// State of choosing for one function.
pub struct Chooser<'a, 'b> {
    pub module: Module,
    pub kinds: &'a Kinds,
    pub marks: &'a mut Marks,
    pub callees: &'a mut Callees<'b>,
    pub report: &'a mut Report,
    pub function: Value,
    pub addresses: Addresses,
    pub plan: Plan,
    pub facts: Facts,
}

impl<'a, 'b> Chooser<'a, 'b> {
    pub fn new(
        module: Module,
        kinds: &'a Kinds,
        marks: &'a mut Marks,
        callees: &'a mut Callees<'b>,
        report: &'a mut Report,
        function: Value,
    ) -> Self {
        let mut addresses = Addresses::new(module);
        addresses.body = callees.prepared;
        Chooser {
            module,
            kinds,
            marks,
            callees,
            report,
            function,
            addresses,
            plan: Plan::default(),
            facts: Facts::default(),
        }
    }

    pub fn run(&mut self, cfg: &Cfg) {
        let n = cfg.blocks.len();
        self.plan.floats = self
            .function
            .value_type()
            .return_type()
            .is_float_or_vector()
            || self
                .function
                .parameters()
                .iter()
                .any(|p| p.ty().is_float_or_vector());
        self.facts.kills = vec![Vec::new(); n];
        for &b in &cfg.order {
            for (position, at) in cfg.blocks[b as usize].instructions().enumerate() {
                let place = Place {
                    block: b,
                    position: position as u32,
                    at,
                };
                self.instruction(place);
            }
        }
    }

    fn instruction(&mut self, place: Place) {
        let at = place.at;
        self.plan.floats = self.plan.floats || at.ty().is_float_or_vector();
        match at.opcode() {
            Some(Opcode::LLVMLoad) => {
                if at.metadata(self.kinds.invariant_load).is_some() {
                    return self.report.skip(self.function, at, "read", Skip::Invariant);
                }
                if self.callees.prepared && self.is_of_python(at) {
                    return self.report.skip(self.function, at, "read", Skip::Racy);
                }
                self.access(place, at.operand(0), at.ty(), Mode::Read)
            }
            Some(Opcode::LLVMStore) => {
                self.plan.floats |= at.operand(0).ty().is_float_or_vector();
                self.access(place, at.operand(1), at.operand(0).ty(), Mode::Write)
            }
            Some(Opcode::LLVMAtomicRMW) => {
                self.access(place, at.operand(0), at.operand(1).ty(), Mode::Write)
            }
            Some(Opcode::LLVMAtomicCmpXchg) => {
                self.access(place, at.operand(0), at.operand(1).ty(), Mode::Write)
            }
            Some(Opcode::LLVMCall | Opcode::LLVMInvoke | Opcode::LLVMCallBr) => self.call(place),
            Some(Opcode::LLVMVAArg) => {
                self.report.unsupported(
                    self.function,
                    at,
                    "va_arg instruction: the list is taken to be private",
                );
            }
            _ => {}
        }
    }

    /// Whether a load reads what CPython alone changes: headers of objects, types, its variables.
    fn is_of_python(&self, load: Value) -> bool {
        const STRUCTS: [&str; 3] = ["_object", "_typeobject", "_heaptypeobject"];
        let from = root(load.operand(0));
        let is_variable = from.is_global_variable()
            && from.is_declaration()
            && (from.name().starts_with("Py") || from.name().starts_with("_Py"));
        // The first operand of a struct-path tag is the struct.
        let owner = load.metadata(self.kinds.tbaa).and_then(|tag| {
            let owner = tag.node_operands().first().copied().flatten()?;
            let name = owner.is_node().then(|| owner.node_operands());
            name?.first().copied().flatten()?.metadata_string()
        });
        is_variable || owner.is_some_and(|name| STRUCTS.contains(&name))
    }

    /// A load, store or atomic operation.
    fn access(&mut self, place: Place, pointer: Value, ty: crate::ffi::Type, mode: Mode) {
        let at = place.at;
        let word = if mode == Mode::Read { "read" } else { "write" };
        if ty.is_scalable_vector() {
            return self
                .report
                .error(self.function, at, "access to a vector of unknown length");
        }
        let mark = self.marks.of(at);
        let size = self.module.store_size(ty);
        match self.mode(pointer, mode, mark) {
            Ok(mode) => self.barrier(place, pointer, size, at.alignment(), mode, mark.residue),
            Err(skip) => self.report.skip(self.function, at, word, skip),
        }
    }

    /// The barrier that an access needs by where it points and by its annotation.
    fn mode(&mut self, pointer: Value, mode: Mode, mark: Mark) -> Result<Mode, Skip> {
        use crate::marks::Kind;
        if pointer.ty().address_space() != 0 {
            return Err(Skip::AddressSpace);
        }
        let read = mode == Mode::Read;
        match self.addresses.memory(pointer) {
            Memory::Stack => return Err(Skip::Stack),
            Memory::Constant => return Err(Skip::Constant),
            Memory::ThreadLocal if read => return Err(Skip::ThreadLocal),
            Memory::ThreadLocal => return Ok(Mode::Private),
            Memory::Shared => {}
        }
        match mark.kind {
            Kind::Normal => Ok(mode),
            Kind::Immutable if read => Err(Skip::Immutable),
            Kind::Immutable => Ok(Mode::Immutable),
            Kind::Private if read => Err(Skip::Private),
            Kind::Private => Ok(Mode::Private),
            Kind::Recycled if read => Err(Skip::Recycled),
            Kind::Recycled => Ok(Mode::Write),
            Kind::Racy => Err(Skip::Racy),
            Kind::Plain => Err(Skip::Replaced),
        }
    }

    fn barrier(
        &mut self,
        place: Place,
        pointer: Value,
        size: u64,
        align: u64,
        mode: Mode,
        residue: Option<u8>,
    ) {
        if size == 0 {
            return;
        }
        if size > INLINE_BYTES && mode != Mode::Private {
            return self.range(place, pointer, Length::Bytes(size), mode);
        }
        self.report.barrier(self.function, place.at, mode);
        let address = self.addresses.address(pointer);
        self.plan.barriers.push(Barrier {
            place,
            mode,
            pointer,
            piece: Piece {
                address,
                size,
                align: align.max(1),
                residue,
            },
            dropped: None,
            moved: false,
            also: Vec::new(),
            hot: false,
        });
    }

    fn range(&mut self, place: Place, pointer: Value, length: Length, mode: Mode) {
        let mode = if mode == Mode::Immutable {
            // One byte is enough to make the transaction exclusive, unless the memory is fresh.
            self.barrier(place, pointer, 1, 1, mode, None);
            Mode::Write
        } else {
            mode
        };
        self.report.range(self.function, place.at, mode);
        self.step(
            place,
            Action::Range {
                mode,
                pointer,
                length,
            },
        );
    }

    fn step(&mut self, place: Place, action: Action) {
        self.plan.steps.push(Step { place, action });
    }

    /// A body of kind `inevitable` or `exclusive` becomes so itself: it may be called indirectly.
    pub fn entry_kind(&mut self, sets: &Sets) {
        let action = match attributes::rule(self.function, sets).map(|r| r.kind) {
            Some(FunctionKind::Inevitable) => Action::Inevitable,
            Some(FunctionKind::Exclusive) => Action::Exclusive,
            _ => return,
        };
        let Some(entry) = self.function.entry() else {
            return;
        };
        let start = entry
            .instructions()
            .enumerate()
            .find(|(_, i)| i.opcode() != Some(Opcode::LLVMAlloca));
        if let Some((position, at)) = start {
            self.step(
                Place {
                    block: 0,
                    position: position as u32,
                    at,
                },
                action,
            );
        }
    }

    // --- calls ---------------------------------------------------------------------------------

    fn call(&mut self, place: Place) {
        let at = place.at;
        self.plan.floats = self.plan.floats
            || (0..at.arguments()).any(|i| at.operand(i).ty().is_float_or_vector());
        let Some(callee) = self.callees.of(at) else {
            return self.assembly(place);
        };
        if callee.is_count {
            self.plan.counts.push(at);
        }
        match callee.treatment {
            Treatment::Nothing => return,
            Treatment::Memory(kind) => return self.memory_intrinsic(place, kind),
            Treatment::UnknownIntrinsic => {
                let text = format!("{}: the transaction becomes exclusive", at.callee().name());
                self.report.unsupported(self.function, at, &text);
                self.step(place, Action::Exclusive);
            }
            Treatment::Free => {}
            Treatment::Check => {
                self.report.count("call_checks");
                self.step(
                    place,
                    Action::Check {
                        target: at.callee(),
                    },
                );
            }
            Treatment::Inevitable => self.step(place, Action::Inevitable),
            Treatment::Exclusive => self.step(place, Action::Exclusive),
            Treatment::Boundary => self.boundary(place),
        }
        let calls_itself = at.callee() == self.function;
        if callee.treatment == Treatment::Check || callee.kills || calls_itself {
            self.facts.calls.push(place.block);
        }
        self.arguments(place, &callee);
        if callee.returns_twice {
            self.report.unsupported(
                self.function,
                at,
                "call that may return twice: the transaction becomes exclusive",
            );
            self.step(place, Action::Exclusive);
        }
        if callee.kills {
            self.facts.kills[place.block as usize].push(place.position);
        }
        if let Some(allocator) = callee.allocator {
            self.facts.fresh.push((at, place, allocator.align));
        }
    }

    fn boundary(&mut self, place: Place) {
        let at = place.at;
        if at.is_must_tail() {
            self.report.unsupported(
                self.function,
                at,
                "boundary function called as a guaranteed tail call: becomes exclusive",
            );
            return self.step(place, Action::Exclusive);
        }
        let after = match at.opcode() {
            Some(Opcode::LLVMCall) => at.next(),
            _ => None,
        };
        let Some(next) = after else {
            self.report.unsupported(
                self.function,
                at,
                "boundary function called where it may throw: becomes exclusive",
            );
            return self.step(place, Action::Exclusive);
        };
        at.forbid_tail();
        self.step(place, Action::BoundaryEnter);
        let after = Place {
            block: place.block,
            position: place.position + 1,
            at: next,
        };
        self.step(after, Action::BoundaryLeave);
    }

    /// Memory that the call itself reads or writes.
    fn arguments(&mut self, place: Place, callee: &Callee) {
        let at = place.at;
        for i in 0..at.arguments() {
            if let Some(ty) = at.call_argument_type(i, self.kinds.byval) {
                let size = self.module.alloc_size(ty);
                self.const_range(place, at.operand(i), size, 1, Mode::Read);
            }
        }
        for (ranges, mode) in [(&callee.reads, Mode::Read), (&callee.writes, Mode::Write)] {
            for range in ranges {
                self.argument_range(place, range, mode);
            }
        }
    }

    fn argument_range(&mut self, place: Place, range: &Range, mode: Mode) {
        let at = place.at;
        let n = at.arguments();
        let valid = range.args().all(|a| a < n) && at.operand(range.arg).ty().is_pointer();
        if !valid {
            self.report.unsupported(
                self.function,
                at,
                &format!(
                    "rule `{range}` of {} does not fit this call: becomes exclusive",
                    at.callee().name()
                ),
            );
            return self.step(place, Action::Exclusive);
        }
        let pointer = at.operand(range.arg);
        if pointer.is_null() || self.mode(pointer, mode, Mark::default()).is_err() {
            return;
        }
        let length = match range.len {
            Len::Const(n) => Length::Bytes(n),
            Len::Arg(a) => Length::Value(at.operand(a)),
            Len::Product(a, b) => Length::Product(at.operand(a), at.operand(b)),
            Len::Scaled(a, n) => Length::Scaled(at.operand(a), n),
            Len::CString(max) => Length::Text(max.map(|a| at.operand(a))),
        };
        self.range(place, pointer, length, mode);
    }

    fn memory_intrinsic(&mut self, place: Place, kind: Intrinsic) {
        let at = place.at;
        let op = |i| at.operand(i);
        match kind {
            Intrinsic::Copy | Intrinsic::Set => {
                let mut parts = vec![(0, Mode::Write)];
                if kind == Intrinsic::Copy {
                    parts.insert(0, (1, Mode::Read));
                }
                for (argument, mode) in parts {
                    let mark = self.marks.of_argument(at, argument);
                    let pointer = op(argument);
                    match (self.mode(pointer, mode, mark), op(2).as_u64()) {
                        (Ok(mode), Some(n)) => self.barrier(place, pointer, n, 1, mode, None),
                        (Ok(mode), None) => {
                            self.range(place, pointer, Length::Value(op(2)), mode);
                        }
                        (Err(skip), _) => {
                            let word = if mode == Mode::Read { "read" } else { "write" };
                            self.report.skip(self.function, at, word, skip);
                        }
                    }
                }
            }
            Intrinsic::MaskedLoad => {
                let size = self.module.store_size(at.ty());
                self.const_range(place, op(0), size, 1, Mode::Read);
            }
            Intrinsic::ExpandLoad => {
                let size = self.module.store_size(at.ty());
                self.value_range(place, op(0), Length::Bytes(size), Mode::Read);
            }
            Intrinsic::MaskedStore => self.lanes(place, op(1), op(3), op(0).ty(), Mode::Write),
            Intrinsic::Scatter => self.lanes(place, op(1), op(3), op(0).ty(), Mode::Write),
            Intrinsic::Gather => self.lanes(place, op(0), op(2), at.ty(), Mode::Read),
            Intrinsic::CompressStore => {
                if let Some((lanes, stride)) = self.lane_layout(place, op(0).ty()) {
                    if self.mode(op(1), Mode::Write, Mark::default()).is_ok() {
                        let (pointer, mask) = (op(1), op(2));
                        let mode = Mode::Write;
                        self.report.range(self.function, at, mode);
                        self.step(
                            place,
                            Action::Packed(Lanes {
                                mode,
                                pointer,
                                mask,
                                count: lanes,
                                stride,
                            }),
                        );
                    }
                }
            }
        }
    }

    fn lane_layout(&mut self, place: Place, vector: crate::ffi::Type) -> Option<(u32, u64)> {
        match (vector.lanes(), vector.element()) {
            (Some(lanes), Some(element)) => Some((lanes, self.module.alloc_size(element))),
            _ => {
                self.report.error(
                    self.function,
                    place.at,
                    "access to a vector of unknown length",
                );
                None
            }
        }
    }

    fn lanes(
        &mut self,
        place: Place,
        pointer: Value,
        mask: Value,
        vector: crate::ffi::Type,
        mode: Mode,
    ) {
        let Some((lanes, stride)) = self.lane_layout(place, vector) else {
            return;
        };
        let mode = if pointer.ty().is_vector() {
            mode
        } else {
            let mark = self.marks.of_known(place.at);
            match self.mode(pointer, mode, mark) {
                Ok(mode) => mode,
                Err(skip) => return self.report.skip(self.function, place.at, "write", skip),
            }
        };
        self.report.range(self.function, place.at, mode);
        self.step(
            place,
            Action::Lanes(Lanes {
                mode,
                pointer,
                mask,
                count: lanes,
                stride,
            }),
        );
    }

    /// Range of constant length that an instruction which is no plain access touches.
    fn const_range(&mut self, place: Place, pointer: Value, size: u64, align: u64, mode: Mode) {
        let word = if mode == Mode::Read { "read" } else { "write" };
        let mark = self.marks.of_known(place.at);
        match self.mode(pointer, mode, mark) {
            Ok(mode) => self.barrier(place, pointer, size, align, mode, None),
            Err(skip) => self.report.skip(self.function, place.at, word, skip),
        }
    }

    fn value_range(&mut self, place: Place, pointer: Value, length: Length, mode: Mode) {
        let word = if mode == Mode::Read { "read" } else { "write" };
        let mark = self.marks.of_known(place.at);
        match self.mode(pointer, mode, mark) {
            Ok(mode) => self.range(place, pointer, length, mode),
            Err(skip) => self.report.skip(self.function, place.at, word, skip),
        }
    }

    fn assembly(&mut self, place: Place) {
        let (text, constraints, side_effects) = place.at.callee().assembly();
        let only_comments = text
            .lines()
            .all(|l| l.trim().is_empty() || l.trim().starts_with('#'));
        // Indirect operands are memory: `*m`, `=*m`.
        let memory = constraints.contains("~{memory}") || constraints.contains('*');
        if only_comments || (!side_effects && !memory) || is_pause(&text) {
            return;
        }
        self.report.unsupported(
            self.function,
            place.at,
            "inline assembly that may touch memory: the transaction becomes exclusive",
        );
        self.step(place, Action::Exclusive);
    }
}

/// Spin-loop hints, fences and the time-stamp counter touch no memory.
fn is_pause(text: &str) -> bool {
    matches!(
        text.trim(),
        "pause" | "rep; nop" | "rep nop" | "rep;nop" | "mfence" | "lfence" | "sfence" | "rdtsc"
    )
}
