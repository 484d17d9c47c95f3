//! The inline sequences and calls of ame_rt.h.
//!
//! The read barrier is six instructions on x86-64 (copy, shift, truncate, load the mark, compare
//! with `gs:rver`, branch). The thread's mark table and control words are found by %gs, so that barriers need no register
//! but that of the address and one more. A slow path is a call from inline assembly to a stub that keeps all
//! general-purpose registers: `preserve_mostcc`, which says the same, crashes LLVM 19's register
//! coalescer. The call pushes below the stack pointer, so instrumented functions have no red zone.

use super::clones::DISPATCHERS;
use crate::ffi::{attribute_kind, Block, Builder, IntPredicate, Module, Opcode, Type, Value};
use ame_abi::{sym, GRANULE_MASK, GRANULE_SHIFT, LOCK_TABLE, PREFIX_LEN, PREFIX_MAGIC};
use ame_abi::{SEGMENT_MARKS, SEGMENT_RVER, SEGMENT_VER, SEGMENT_WVER};
use ame_abi::{TLS_INSIDE, TLS_SYMBOL, TLS_UNFENCED, VER_POKED};
use rustc_hash::FxHashMap;

/// Types, declarations and constants of one module that inserted code needs.
pub struct Runtime {
    pub module: Module,
    pub builder: Builder,
    pub void: Type,
    pub ptr: Type,
    /// A pointer into the thread's segment.
    segment: Type,
    pub i8: Type,
    pub i16: Type,
    pub i32: Type,
    pub i64: Type,
    cold: Value,
    prof: u32,
    tls: Option<Value>,
    tls_address: Option<(Value, Type)>,
    functions: FxHashMap<&'static str, (Value, Type)>,
    stub_with_address: Type,
    stub: Type,
    wide_clobbers: String,
    pub read_text: Option<Value>,
}

/// What LLVM calls memory by %gs.
const SEGMENT: u32 = 256;

/// Start of the names of the markers that stand for counting functions between the phases.
pub const COUNT_MARKER: &str = "ame.count.";

/// For functions without floating point: nothing is ever kept in a vector register. Each named
/// clobber costs LLVM a search through all registers of the machine, so this matters.
const INTEGER_CLOBBERS: &str = "~{flags},~{memory}";

const CLOBBERS: &str = "~{xmm0},~{xmm1},~{xmm2},~{xmm3},~{xmm4},~{xmm5},~{xmm6},~{xmm7},~{xmm8},\
~{xmm9},~{xmm10},~{xmm11},~{xmm12},~{xmm13},~{xmm14},~{xmm15},~{flags},~{memory}";

impl Runtime {
    pub fn new(module: Module) -> Runtime {
        let (void, ptr) = (module.void(), module.pointer());
        let mut wide_clobbers = String::new();
        for i in 16..32 {
            wide_clobbers += &format!("~{{xmm{i}}},");
        }
        for i in 0..8 {
            wide_clobbers += &format!("~{{k{i}}},");
        }
        wide_clobbers += CLOBBERS;
        Runtime {
            module,
            builder: Builder::new(module),
            void,
            ptr,
            segment: module.pointer_in(SEGMENT),
            i8: module.int(8),
            i16: module.int(16),
            i32: module.int(32),
            i64: module.int(64),
            cold: module.branch_weights(1, 2000),
            prof: module.metadata_kind("prof"),
            tls: None,
            tls_address: None,
            functions: FxHashMap::default(),
            stub_with_address: void.function(&[ptr], false),
            stub: void.function(&[], false),
            wide_clobbers,
            read_text: None,
        }
    }

    /// A function of the runtime, declared at its first use.
    pub fn function(&mut self, name: &'static str) -> (Value, Type) {
        if let Some(&known) = self.functions.get(name) {
            return known;
        }
        let (void, ptr, i32t, i64t) = (self.void, self.ptr, self.i32, self.i64);
        let ty = match name {
            sym::READ_RANGE | sym::WRITE_RANGE | sym::PRIVATE_RANGE => {
                void.function(&[ptr, i64t], false)
            }
            sym::REFCOUNT_ADD32 | sym::COUNTER_ADD32 => i32t.function(&[ptr, i32t], false),
            sym::REFCOUNT_ADD64 | sym::COUNTER_ADD64 => i64t.function(&[ptr, i64t], false),
            sym::REFCOUNT_READ32 | sym::COUNTER_READ32 => i32t.function(&[ptr], false),
            sym::REFCOUNT_READ64 | sym::COUNTER_READ64 => i64t.function(&[ptr], false),
            sym::PER_THREAD => ptr.function(&[ptr, i64t], false),
            sym::MODULE_REGISTER => void.function(&[i32t, ptr, ptr, i64t], false),
            sym::UNBALANCED => void.function(&[ptr], false),
            "strlen" => i64t.function(&[ptr], false),
            "strnlen" => i64t.function(&[ptr, i64t], false),
            _ => void.function(&[], false),
        };
        let function = self
            .module
            .function(name)
            .unwrap_or_else(|| self.module.add_function(name, ty));
        self.functions.insert(name, (function, ty));
        (function, ty)
    }

    pub fn call(&mut self, name: &'static str, arguments: &[Value]) -> Value {
        let (function, ty) = self.function(name);
        self.builder.call(ty, function, arguments)
    }

    /// The address of the thread-local variable, computed where the builder stands.
    fn tls(&mut self) -> Value {
        let global = *self.tls.get_or_insert_with(|| {
            self.module.global(TLS_SYMBOL).unwrap_or_else(|| {
                // struct ame_tls
                let fields = [self.ptr, self.i16, self.i16, self.ptr];
                self.module
                    .add_initial_exec(TLS_SYMBOL, self.module.struct_type(&fields))
            })
        });
        let (address, ty) = *self.tls_address.get_or_insert_with(|| {
            let name = "llvm.threadlocal.address.p0";
            let ty = self.ptr.function(&[self.ptr], false);
            let f = self
                .module
                .function(name)
                .unwrap_or_else(|| self.module.add_function(name, ty));
            (f, ty)
        });
        self.builder.call(ty, address, &[global])
    }

    /// A control word of the thread.
    fn control(&self, offset: u64) -> Value {
        let place = self.builder.int_to_ptr(self.i64.int(offset), self.segment);
        self.builder.load(self.i16, place, 2)
    }

    /// Where the mark of a granule is.
    fn mark(&self, granule: Value) -> Value {
        // From null: LLVM would keep any other start in a register.
        let mark = self.builder.gep(self.i16, self.segment.null(), granule);
        self.builder.gep(self.i8, mark, self.i64.int(SEGMENT_MARKS))
    }

    /// Marks `branch` as hardly ever taken to its first successor.
    pub fn unlikely(&self, branch: Value) {
        branch.set_metadata(self.prof, self.cold);
    }

    /// The check of the granule of `pointer`: is its mark too low for a read or write?
    pub fn check(&self, pointer: Value, write: bool) -> Check {
        let b = &self.builder;
        let address = b.ptr_to_int(pointer, self.i64);
        let shifted = b.binary(
            Opcode::LLVMLShr,
            address,
            self.i64.int(GRANULE_SHIFT.into()),
        );
        // The lower half, GRANULE_MASK. In assembly, because LLVM would join it with the scaling of the mark's place to a
        // mask of 33 bits, which takes an instruction of ten bytes and a register.
        let ty = self.i64.function(&[self.i64], false);
        let granule = b.pure_assembly(ty, "mov ${0:k}, ${0:k}", "=r,0", &[shifted]);
        let mark = b.load(self.i16, self.mark(granule), 2);
        let need = self.control(version_word(write));
        Check {
            too_low: b.compare(IntPredicate::LLVMIntULT, mark, need),
            granule,
            mark,
        }
    }

    /// After a failed read check, in its cold block: marks the granule and its neighbour right here
    /// while the thread reads without fences. The stub does the rest: fenced mode, a neighbour that
    /// is marked already, a check that only failed because somebody wants attention.
    pub fn inline_read(&mut self, check: &Check, pointer: Value, vectors: Vectors, rest: Block) {
        // Not in the segment: a thread that has not registered must not mark in that of another.
        let allowed = self.is_set_in_tls(TLS_UNFENCED);
        let b = &self.builder;
        let function = b.block().function();
        let block = |name| self.module.append_block(function, name);
        let (warm, stub, contended) = (block("ame.warm"), block("ame.cold"), block("ame.cold"));
        let (i16t, i32t) = (self.i16, self.i32);
        let version = self.control(SEGMENT_VER);
        let other = b.binary(Opcode::LLVMXor, check.granule, self.i64.int(1));
        let neighbour = b.load(i16t, self.mark(other), 2);
        let below = |mark| b.compare(IntPredicate::LLVMIntULT, mark, version);
        let both = b.binary(Opcode::LLVMAnd, below(check.mark), below(neighbour));
        b.branch_if(b.binary(Opcode::LLVMAnd, both, allowed), warm, stub);
        b.at_end(warm);
        let pair = b.binary(
            Opcode::LLVMAnd,
            check.granule,
            self.i64.int(GRANULE_MASK - 1),
        );
        let twice = b.binary(
            Opcode::LLVMMul,
            b.int_cast(version, i32t, false),
            i32t.int(0x1_0001),
        );
        b.store(twice, self.mark(pair), 4);
        let table = b.int_to_ptr(self.i64.int(LOCK_TABLE), self.ptr);
        let locks = b.load(i32t, b.inbounds_gep(i16t, table, pair), 4);
        // The data is read after the lock was seen free.
        locks.set_acquire();
        let locked = b.compare(IntPredicate::LLVMIntNE, locks, i32t.int(0));
        let branch = b.branch_if(locked, contended, rest);
        self.unlikely(branch);
        b.at_end(contended);
        self.stub(sym::READ_PAIR_CONTENDED, Some(pointer), vectors);
        b.branch(rest);
        b.at_end(stub);
        self.stub(sym::READ_SLOW, Some(pointer), vectors);
        b.branch(rest);
    }

    fn is_set(&self, version: Value) -> Value {
        self.builder
            .compare(IntPredicate::LLVMIntNE, version, self.i16.int(0))
    }

    fn is_set_in_tls(&mut self, offset: u64) -> Value {
        let tls = self.tls();
        let place = self
            .builder
            .inbounds_gep(self.i8, tls, self.i64.int(offset));
        self.is_set(self.builder.load(self.i16, place, 2))
    }

    /// Condition: the thread is in a transaction that is not exclusive.
    pub fn in_transaction(&self) -> Value {
        self.is_set(self.control(SEGMENT_WVER))
    }

    /// The same for code that may run in a thread whose %gs nobody has set: one that was there before the runtime.
    pub fn in_transaction_anywhere(&mut self) -> Value {
        self.is_set_in_tls(TLS_INSIDE)
    }

    /// Condition: the thread is in a transaction, be it an exclusive one.
    pub fn inside(&self) -> Value {
        self.is_set(self.control(SEGMENT_VER))
    }

    /// Condition: somebody wants this thread to take a slow path.
    pub fn poked(&self) -> Value {
        self.builder.compare(
            IntPredicate::LLVMIntEQ,
            self.control(SEGMENT_RVER),
            self.i16.int(VER_POKED.into()),
        )
    }

    fn clobbers(&self, vectors: Vectors) -> &str {
        match vectors {
            Vectors::Unused => INTEGER_CLOBBERS,
            Vectors::Sse => CLOBBERS,
            Vectors::Avx512 => &self.wide_clobbers,
        }
    }

    /// Calls a stub with an address, or none, in %rdi.
    pub fn stub(&self, name: &str, address: Option<Value>, vectors: Vectors) {
        let clobbers = self.clobbers(vectors);
        let call = call_text(name);
        match address {
            Some(address) => {
                // Any register, exchanged with %rdi here: a fixed one would cost copies around the
                // call and much time in the register allocator.
                let text = format!("xchg $0, %rdi\n\t{call}\n\txchg $0, %rdi");
                let constraints = format!("r,{clobbers}");
                self.builder
                    .assembly(self.stub_with_address, &text, &constraints, &[address]);
            }
            None => {
                self.builder.assembly(self.stub, &call, clobbers, &[]);
            }
        }
    }

    /// A whole barrier as one piece of assembly, without blocks of its own: in large functions the
    /// code generator's time grows faster than the number of blocks. The slow path is jumped over.
    pub fn compact_check(&self, pointer: Value, write: bool, name: &str, v: Vectors) {
        let version = version_word(write);
        let text = format!(
            "mov $1, $0\n\tshr $${GRANULE_SHIFT}, $0\n\tmov ${{0:k}}, ${{0:k}}\n\t\
             movzwl %gs:{SEGMENT_MARKS}(,$0,2), ${{0:k}}\n\tcmpw %gs:{version}, ${{0:w}}\n\tjae 1f\n\t\
             xchg $1, %rdi\n\t{}\n\txchg $1, %rdi\n1:",
            call_text(name)
        );
        let ty = self.i64.function(&[self.ptr], false);
        let constraints = format!("=&r,r,{}", self.clobbers(v));
        self.builder.assembly(ty, &text, &constraints, &[pointer]);
    }

    /// The same for what is only done in a transaction; `text` may use $0, the address.
    fn compact_guard(&self, text: &str, address: Option<Value>, v: Vectors) {
        let clobbers = self.clobbers(v);
        let text = format!("cmpw $$0, %gs:{SEGMENT_WVER}\n\tje 2f\n\t{text}\n2:");
        match address {
            Some(address) => {
                let constraints = format!("r,{clobbers}");
                self.builder
                    .assembly(self.stub_with_address, &text, &constraints, &[address]);
            }
            None => {
                self.builder.assembly(self.stub, &text, clobbers, &[]);
            }
        }
    }

    pub fn compact_poll(&self, v: Vectors) {
        let text = format!(
            "cmpw $$-1, %gs:{SEGMENT_RVER}\n\tjne 2f\n\t{}\n2:",
            call_text(sym::POLL_SLOW)
        );
        self.builder
            .assembly(self.stub, &text, self.clobbers(v), &[]);
    }

    pub fn compact_target(&self, target: Value, v: Vectors) {
        self.compact_guard(&target_text("2f"), Some(target), v);
    }

    pub fn compact_private(&self, pointer: Value, size: u64, v: Vectors) {
        self.compact_guard(&range_text(sym::PRIVATE_RANGE, size), Some(pointer), v);
    }

    pub fn compact_plain(&self, name: &str, v: Vectors) {
        let call = call_text(&format!("{name}{}", sym::STUB_SUFFIX));
        self.compact_guard(&keeping_rax(&call), None, v);
    }

    /// Calls the marker of a counting function, which the instrument phase expands.
    pub fn count_marker(&self, name: &str, ty: Type, arguments: &[Value]) -> Value {
        let marker = format!("{COUNT_MARKER}{name}");
        let parameters: Vec<Type> = arguments.iter().map(|a| a.ty()).collect();
        let fty = ty.function(&parameters, false);
        let function = self.module.function(&marker).unwrap_or_else(|| {
            let function = self.module.add_function(&marker, fty);
            for attribute in ["nounwind", "willreturn", "nocallback"] {
                function.add_function_attribute(attribute_kind(attribute));
            }
            // Reads, or reads and writes, what its argument points to (LLVM's encoding).
            let effects = if arguments.len() == 1 { 1 } else { 3 };
            function.add_function_attribute_value(attribute_kind("memory"), effects);
            function
        });
        self.builder.call(fty, function, arguments)
    }

    /// Expands a marker: what is written to already, and everything outside of transactions, is
    /// counted in place. One piece of assembly, for there are many.
    pub fn expand_count(&self, call: Value, v: Vectors) {
        let name = &call.callee().name()[COUNT_MARKER.len()..];
        let wide = call.ty().int_width() == Some(64);
        let (ax, si) = if wide {
            ("%rax", "%rsi")
        } else {
            ("%eax", "%esi")
        };
        let amount = (call.arguments() == 2).then(|| call.operand(1));
        let constant = amount
            .and_then(Value::as_i64)
            .filter(|&n| n as i32 as i64 == n);
        let plain = match (amount, constant) {
            (None, _) => format!("mov ($1), {ax}"),
            // Not added in place and read back, which would wait for the store.
            (_, Some(n)) => format!("mov ($1), {ax}\n\tadd $${n}, {ax}\n\tmov {ax}, ($1)"),
            _ => format!("mov ($1), {ax}\n\tadd {si}, {ax}\n\tmov {ax}, ($1)"),
        };
        let stub = call_text(&format!("{name}{}", sym::STUB_SUFFIX));
        let slow = match constant {
            Some(n) => format!("push %rsi\n\tmov $${n}, {si}\n\t{stub}\n\tpop %rsi"),
            None => stub,
        };
        let text = format!(
            "mov $1, %rax\n\tshr $${GRANULE_SHIFT}, %rax\n\tmov %eax, %eax\n\t\
             movzwl %gs:{SEGMENT_MARKS}(,%rax,2), %eax\n\tcmpw %gs:{SEGMENT_WVER}, %ax\n\tjb 1f\n\t{plain}\n2:\n\t\
             .pushsection .text.ame_counts,\"ax\",@progbits\n1:\n\t\
             xchg $1, %rdi\n\t{slow}\n\txchg $1, %rdi\n\tjmp 2b\n\t.popsection"
        );
        self.builder.before(call);
        let mut arguments = vec![call.operand(0)];
        let mut parameters = vec![self.ptr];
        let mut constraints = "=&{rax},r,".to_owned();
        if let (Some(n), None) = (amount, constant) {
            arguments.push(n);
            parameters.push(n.ty());
            constraints = "=&{rax},{rdi},{rsi},".to_owned();
        }
        constraints += self.clobbers(v);
        let ty = call.ty().function(&parameters, false);
        let result = self.builder.assembly(ty, &text, &constraints, &arguments);
        call.replace_with(result);
        call.erase();
    }

    /// Expands a marker where there is no transaction.
    pub fn expand_count_plain(&self, call: Value) {
        let (pointer, ty) = (call.operand(0), call.ty());
        let align = ty.int_width().unwrap_or(64) / 8;
        self.builder.before(call);
        let mut count = self.builder.load(ty, pointer, align);
        if call.arguments() == 2 {
            let sum = self.builder.binary(Opcode::LLVMAdd, count, call.operand(1));
            self.builder.store(sum, pointer, align);
            count = sum;
        }
        call.replace_with(count);
        call.erase();
    }

    /// Calls the stub of a function that takes an address and a length. An ordinary call here would
    /// make the register allocator keep what lives across it out of caller-saved registers.
    pub fn range_stub(&self, name: &str, address: Value, length: Value, vectors: Vectors) {
        let clobbers = self.clobbers(vectors);
        match length.as_u64().filter(|&n| n <= i32::MAX as u64) {
            Some(n) => {
                let text = range_text(name, n);
                let constraints = format!("r,{clobbers}");
                self.builder
                    .assembly(self.stub_with_address, &text, &constraints, &[address]);
            }
            None => {
                let ty = self.void.function(&[self.ptr, self.i64], false);
                let constraints = format!("{{rdi}},{{rsi}},{clobbers}");
                let text = keeping_rax(&call_text(&format!("{name}{}", sym::STUB_SUFFIX)));
                self.builder
                    .assembly(ty, &text, &constraints, &[address, length]);
            }
        }
    }

    /// Calls the stub that acquires for writing what a loop writes in steps.
    pub fn write_steps(&self, address: Value, length: Value, steps: (u64, u64), vectors: Vectors) {
        let (step, size) = (self.i64.int(steps.0), self.i64.int(steps.1));
        let ty = self
            .void
            .function(&[self.ptr, self.i64, self.i64, self.i64], false);
        let constraints = format!("{{rdi}},{{rsi}},{{rdx}},{{rcx}},{}", self.clobbers(vectors));
        let stub = call_text(&format!("{}{}", sym::WRITE_STEPS, sym::STUB_SUFFIX));
        self.builder.assembly(
            ty,
            &keeping_rax(&stub),
            &constraints,
            &[address, length, step, size],
        );
    }

    /// Calls the stub of a function without arguments.
    pub fn plain_stub(&self, name: &str, vectors: Vectors) {
        let call = call_text(&format!("{name}{}", sym::STUB_SUFFIX));
        self.builder
            .assembly(self.stub, &keeping_rax(&call), self.clobbers(vectors), &[]);
    }

    /// Looks up `target` unless it has the prefix magic; both in one piece of assembly, which costs
    /// the code generator less than two more blocks.
    pub fn check_target(&self, target: Value, vectors: Vectors) {
        let text = format!("{}\n2:", target_text("2f"));
        let constraints = format!("r,{}", self.clobbers(vectors));
        self.builder
            .assembly(self.stub_with_address, &text, &constraints, &[target]);
    }

    /// Condition: the function begins where a page does. Before code that was made at run time there may be no page, and
    /// so nothing to compare.
    pub fn begins_page(&self, function: Value) -> Value {
        let address = self.builder.ptr_to_int(function, self.i64);
        let in_page = self
            .builder
            .binary(Opcode::LLVMAnd, address, self.i64.int(PAGE_BITS));
        self.builder
            .compare(IntPredicate::LLVMIntEQ, in_page, self.i64.int(0))
    }

    /// Condition: the address is not between the first and the last dispatcher of the program. Most targets are there,
    /// and whoever compares what stands in front of a function reads code as data, which is seldom in the nearest cache.
    pub fn is_no_dispatcher(&self, function: Value) -> Value {
        let bound = |which: &str| {
            let name = format!("__{which}_{DISPATCHERS}");
            let symbol = self.module.global(&name).unwrap_or_else(|| {
                let symbol = self.module.add_global(&name, self.i8);
                symbol.set_hidden(false);
                symbol
            });
            self.builder.ptr_to_int(symbol, self.i64)
        };
        let (start, stop) = (bound("start"), bound("stop"));
        let address = self.builder.ptr_to_int(function, self.i64);
        let offset = self.builder.binary(Opcode::LLVMSub, address, start);
        let size = self.builder.binary(Opcode::LLVMSub, stop, start);
        self.builder.compare(IntPredicate::LLVMIntUGE, offset, size)
    }

    /// Loads the word in front of a function by which functions are known that were compiled with the pass.
    pub fn load_prefix(&self, function: Value) -> Value {
        let before = self.i64.int((PREFIX_LEN as u64).wrapping_neg());
        let prefix = self.builder.gep(self.i8, function, before);
        self.builder.load(self.i64, prefix, 1)
    }

    pub fn lacks_prefix(&self, word: Value) -> Value {
        self.builder
            .compare(IntPredicate::LLVMIntNE, word, self.i64.int(PREFIX_MAGIC))
    }

    /// Has the runtime look `target` up.
    pub fn look_up(&self, target: Value, vectors: Vectors) {
        self.builder.assembly(
            self.stub_with_address,
            &look_up_text(),
            &format!("r,{}", self.clobbers(vectors)),
            &[target],
        );
    }

    /// Splits before `at`: control goes on to the part from `at` on, except that, when `condition`
    /// holds, a new cold block comes between, at whose end the builder is left. The caller ends it
    /// with a branch to the returned block.
    pub fn cold_before(
        &self,
        at: Value,
        condition: impl FnOnce(&Runtime) -> Value,
    ) -> (Block, Block) {
        let head = at.block();
        let rest = Block::split_before(at);
        if let Some(branch) = head.terminator() {
            branch.erase();
        }
        let cold = self.module.append_block(head.function(), "ame.cold");
        self.builder.locate(at);
        self.builder.at_end(head);
        let condition = condition(self);
        let branch = self.builder.branch_if(condition, cold, rest);
        self.unlikely(branch);
        self.builder.at_end(cold);
        (cold, rest)
    }

    pub fn set_prefix(&self, function: Value) {
        let words = [self.i64.int(PREFIX_MAGIC), self.i64.int(0)];
        function.set_prefix_data(self.module.const_array(self.i64, &words));
        if function.alignment() < PREFIX_LEN {
            function.set_alignment(PREFIX_LEN as u32);
        }
    }
}

/// The values of one inline check.
#[derive(Clone, Copy)]
pub struct Check {
    pub too_low: Value,
    /// Index of the granule.
    granule: Value,
    /// The granule's mark.
    mark: Value,
}

/// The control word that a mark must reach.
fn version_word(write: bool) -> u64 {
    if write {
        SEGMENT_WVER
    } else {
        SEGMENT_RVER
    }
}

/// Through the global offset table: a lazily bound linkage stub would not keep r10 and r11.
fn call_text(name: &str) -> String {
    format!("call *{name}@GOTPCREL(%rip)")
}

/// The bits of an address that say which 16 bytes of a page these are.
const PAGE_BITS: u64 = 0xff0;

/// Assembly that looks up the target in $0 unless it has the prefix magic.
fn target_text(done: &str) -> String {
    let (low, high) = (PREFIX_MAGIC as u32 as i32, (PREFIX_MAGIC >> 32) as i32);
    let (first, second) = (PREFIX_LEN, PREFIX_LEN - 4);
    format!(
        "testl $${PAGE_BITS}, ${{0:k}}\n\tje 1f\n\tcmpl $${low}, -{first}($0)\n\tjne 1f\n\tcmpl $${high}, -{second}($0)\n\tje {done}\n1:\n\t{}",
        look_up_text()
    )
}

/// Assembly that looks up the target in $0.
fn look_up_text() -> String {
    let call = call_text(sym::CALL_SLOW);
    format!("xchg $0, %rdi\n\t{call}\n\txchg $0, %rdi")
}

/// Assembly that calls a range function for `size` bytes from the address in $0.
fn range_text(name: &str, size: u64) -> String {
    let call = call_text(&format!("{name}{}", sym::STUB_SUFFIX));
    format!(
        "xchg $0, %rdi\n\tpush %rsi\n\tpush %rax\n\tmov $${size}, %esi\n\t{call}\n\t\
         pop %rax\n\tpop %rsi\n\txchg $0, %rdi"
    )
}

/// Stubs of functions may return something in %rax.
fn keeping_rax(call: &str) -> String {
    format!("push %rax\n\t{call}\n\tpop %rax")
}

/// What a function keeps in vector registers, which stubs overwrite.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vectors {
    /// Nothing, by the attribute noimplicitfloat.
    Unused,
    /// xmm0 to xmm15, or the ymm registers that contain them.
    Sse,
    /// 32 registers and the mask registers.
    Avx512,
}

impl Vectors {
    /// `floats`: the function has values of floating-point or vector type.
    pub fn of(function: Value, floats: bool) -> Vectors {
        // A variadic function saves its floating-point arguments only without noimplicitfloat.
        if !floats && !function.value_type().is_variadic() {
            function.add_function_attribute(attribute_kind("noimplicitfloat"));
            return Vectors::Unused;
        }
        let features = function.text_attribute("target-features");
        if features.is_some_and(|f| f.contains("+avx512")) {
            Vectors::Avx512
        } else {
            Vectors::Sse
        }
    }
}

/// Attribute that makes a function keep clear of the memory below the stack pointer.
pub fn no_red_zone() -> u32 {
    attribute_kind("noredzone")
}
