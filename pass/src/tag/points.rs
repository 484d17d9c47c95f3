//! What pointers point to, as far as annotations speak about it.
//!
//! Works on code as the front end emits it, where fields are GEPs on struct types and local
//! variables are allocas. A pointer loaded from a local variable points to what is stored into the
//! variable: CPython's `Py_SETREF`, and every access at -O0, go through such variables. Where a GEP
//! says nothing, struct-path TBAA on the access may.

use crate::attributes;
use crate::ffi::{Module, Opcode, Type, Value};
use ame_annotations::{FieldKind, FieldRule, Sets, StructRule};
use rustc_hash::FxHashMap;
use std::rc::Rc;

/// A place in a struct that has rules.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub name: &'a str,
    pub rule: &'a StructRule,
    pub offset: u64,
    /// An index that is not constant was added: the offset is that of the array.
    pub inexact: bool,
}

/// What a pointer points to.
#[derive(Clone, Default)]
pub struct Points<'a> {
    /// Outermost struct first.
    pub places: Vec<Place<'a>>,
    /// Known as a whole: a variable, an annotated field, memory reached through a pointer.
    pub kind: Option<FieldKind>,
    /// Where that begins, and its size, for kinds that have one object.
    pub object: Option<(Value, u64)>,
    /// The pointer modulo 16, of what functions return.
    residue: Option<u8>,
    /// Null, or the variable itself: agrees with everything.
    neutral: bool,
}

impl Points<'_> {
    /// The kind of an access of `size` bytes.
    pub fn kind(&self, size: u64) -> Option<FieldKind> {
        self.kind.or_else(|| self.field(size, |rule| &rule.fields))
    }

    /// The kind of the memory that a pointer loaded from here points to.
    fn pointee(&self, size: u64) -> Option<FieldKind> {
        self.field(size, |rule| &rule.pointees)
    }

    fn field(&self, size: u64, rules: impl Fn(&StructRule) -> &[FieldRule]) -> Option<FieldKind> {
        self.places.iter().find_map(|p| {
            let size = if p.inexact { 1 } else { size };
            kind_in(rules(p.rule), p.offset, size)
        })
    }

    /// Where the object of kind `per_thread` begins, as a distance in bytes from the pointer or as
    /// a value, and its size.
    pub fn field_extent(&self) -> Option<(u64, u64)> {
        let place = self.places.iter().find(|p| !p.inexact)?;
        let field = place
            .rule
            .fields
            .iter()
            .find(|f| f.offset <= place.offset && place.offset < f.offset + f.size)?;
        Some((place.offset - field.offset, field.size))
    }

    /// The address modulo 16, where a set promises it.
    pub fn residue(&self) -> Option<u8> {
        let place = self
            .places
            .iter()
            .find(|p| !p.inexact && p.rule.align.is_some_and(|a| a >= GRANULE));
        place.map(|p| (p.offset % GRANULE) as u8).or(self.residue)
    }
}

const GRANULE: u64 = ame_abi::GRANULE as u64;

/// Pointers that one question may lead to.
const BUDGET: u32 = 20_000;

/// What can be asked about a pointer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Question {
    Value(Value),
    /// All that a local variable may hold: asked once, for a large function has many loads of it.
    Content(Value),
}

/// Finds out what pointers of a module point to.
pub struct Resolver<'a> {
    pub module: Module,
    pub sets: &'a Sets,
    /// Variables annotated in the source.
    pub variables: FxHashMap<Value, FieldKind>,
    known: FxHashMap<Question, Rc<Points<'a>>>,
    /// Questions that are being worked out, with their depth.
    open: FxHashMap<Question, usize>,
    /// Smallest depth of an open pointer that was asked for since this was reset.
    reached: usize,
    /// Questions left before the current one is given up.
    budget: u32,
    structs: FxHashMap<Type, Option<(&'a str, &'a StructRule)>>,
    paths: FxHashMap<Value, Rc<Points<'a>>>,
    tbaa: u32,
}

impl<'a> Resolver<'a> {
    pub fn new(module: Module, sets: &'a Sets) -> Resolver<'a> {
        Resolver {
            module,
            sets,
            variables: FxHashMap::default(),
            known: FxHashMap::default(),
            open: FxHashMap::default(),
            reached: usize::MAX,
            budget: 0,
            structs: FxHashMap::default(),
            paths: FxHashMap::default(),
            tbaa: module.metadata_kind("tbaa"),
        }
    }

    /// Forgets the values of a function that is done.
    pub fn next_function(&mut self) {
        self.known.clear();
    }

    /// What a load or store with this address and these TBAA tags accesses.
    pub fn access(&mut self, access: Value, pointer: Value, size: u64) -> Rc<Points<'a>> {
        let points = self.points(pointer);
        if points.kind(size).is_some() || !points.places.is_empty() {
            return points;
        }
        match access.metadata(self.tbaa).map(|tag| self.path(tag)) {
            Some(path) if points.residue.is_none() || path.kind(size).is_some() => path,
            _ => points,
        }
    }

    /// What `pointer` points to. A variable that is computed from itself says nothing about itself;
    /// what was worked out on such an assumption about a pointer further out is not kept.
    pub fn points(&mut self, pointer: Value) -> Rc<Points<'a>> {
        self.answer(Question::Value(pointer))
    }

    fn answer(&mut self, question: Question) -> Rc<Points<'a>> {
        if let Some(known) = self.known.get(&question) {
            return known.clone();
        }
        if let Some(&depth) = self.open.get(&question) {
            self.reached = self.reached.min(depth);
            return Rc::new(Points {
                neutral: true,
                ..Points::default()
            });
        }
        let depth = self.open.len();
        if depth == 0 {
            self.budget = BUDGET;
        }
        if self.budget == 0 {
            // Unknown, but only for this question.
            self.reached = 0;
            return Rc::default();
        }
        self.budget -= 1;
        let before = std::mem::replace(&mut self.reached, usize::MAX);
        self.open.insert(question, depth);
        let found = Rc::new(match question {
            Question::Value(pointer) => self.work_out(pointer),
            Question::Content(variable) => self.content(variable),
        });
        self.open.remove(&question);
        if depth == 0 || self.reached >= depth {
            self.known.insert(question, found.clone());
            self.reached = before;
        } else {
            self.reached = self.reached.min(before);
        }
        found
    }

    fn work_out(&mut self, pointer: Value) -> Points<'a> {
        match pointer.opcode() {
            Some(Opcode::LLVMGetElementPtr) if !pointer.ty().is_vector() => self.element(pointer),
            Some(Opcode::LLVMBitCast | Opcode::LLVMAddrSpaceCast) => {
                (*self.points(pointer.operand(0))).clone()
            }
            Some(Opcode::LLVMLoad) => self.loaded(pointer),
            Some(Opcode::LLVMPHI) => {
                let incoming: Vec<Value> = pointer.incoming().map(|i| i.0).collect();
                self.agreed(&incoming)
            }
            Some(Opcode::LLVMSelect) => self.agreed(&[pointer.operand(1), pointer.operand(2)]),
            Some(Opcode::LLVMCall) => self.result(pointer),
            _ if pointer.is_global_variable() => self.variable(pointer),
            _ if pointer.is_constant() && pointer.is_null() => Points {
                neutral: true,
                ..Points::default()
            },
            _ => Points::default(),
        }
    }

    /// `&base[i].field...`
    fn element(&mut self, gep: Value) -> Points<'a> {
        let base = self.points(gep.operand(0));
        let mut result = Points {
            places: Vec::new(),
            kind: base.kind,
            object: base.object,
            residue: None,
            neutral: base.neutral,
        };
        let total = self.module.gep_offset(gep);
        if let (Some(residue), Some(by)) = (base.residue, total) {
            result.residue = Some((i64::from(residue) + by).rem_euclid(GRANULE as i64) as u8);
        }
        for place in &base.places {
            let moved = match total {
                Some(by) if !place.inexact => place.offset.checked_add_signed(by),
                Some(0) => Some(place.offset),
                _ => None,
            };
            let place = match moved {
                Some(offset) => Place { offset, ..*place },
                None => Place {
                    inexact: true,
                    ..*place
                },
            };
            result.places.push(place);
        }
        // The structs that the indices walk through.
        let mut ty = gep.gep_source();
        let mut open: Vec<Place<'a>> = Vec::new();
        for i in 2..gep.operands() {
            let index = gep.operand(i);
            if ty.is_struct() {
                if let Some((name, rule)) = self.structure(ty) {
                    open.push(Place {
                        name,
                        rule,
                        offset: 0,
                        inexact: false,
                    });
                }
                let Some(field) = index.as_u64() else { break };
                let step = self.module.field_offset(ty, field as u32);
                open.iter_mut()
                    .filter(|p| !p.inexact)
                    .for_each(|p| p.offset += step);
                let Some(next) = ty.struct_field(field as u32) else {
                    break;
                };
                ty = next;
            } else {
                let Some(element) = ty.element() else { break };
                let step = index
                    .as_u64()
                    .map(|n| n.wrapping_mul(self.module.alloc_size(element)));
                for place in open.iter_mut().filter(|p| !p.inexact) {
                    match step {
                        Some(step) => place.offset = place.offset.wrapping_add(step),
                        None => place.inexact = true,
                    }
                }
                ty = element;
            }
        }
        result.places.extend(open);
        result
    }

    fn structure(&mut self, ty: Type) -> Option<(&'a str, &'a StructRule)> {
        let sets = self.sets;
        *self.structs.entry(ty).or_insert_with(|| {
            let name: &'a str = ty.struct_name()?;
            sets.structure(name).map(|rule| (name, rule))
        })
    }

    /// A pointer loaded from memory: a local variable, or a field with a rule for what it points to.
    fn loaded(&mut self, load: Value) -> Points<'a> {
        let from = load.operand(0);
        if from.opcode() == Some(Opcode::LLVMAlloca) {
            return (*self.answer(Question::Content(from))).clone();
        }
        let size = self.module.store_size(load.ty());
        let points = self.access(load, from, size);
        Points {
            kind: points.pointee(size),
            ..Points::default()
        }
    }

    fn content(&mut self, variable: Value) -> Points<'a> {
        let Some(stored) = stored_values(variable) else {
            return Points::default();
        };
        match stored[..] {
            [one] => (*self.points(one)).clone(),
            _ => self.agreed(&stored),
        }
    }

    /// Several possible pointers: only a kind that all have is known.
    fn agreed(&mut self, values: &[Value]) -> Points<'a> {
        let mut kind = None;
        for &value in values {
            let points = self.points(value);
            if points.neutral && points.kind.is_none() && points.places.is_empty() {
                continue;
            }
            match (kind, points.kind(1)) {
                (_, None) => return Points::default(),
                (None, found) => kind = found,
                (Some(a), Some(b)) if a == b => {}
                _ => return Points::default(),
            }
        }
        Points {
            kind,
            neutral: kind.is_none(),
            ..Points::default()
        }
    }

    fn result(&mut self, call: Value) -> Points<'a> {
        let callee = call.callee();
        if !callee.is_function() {
            return Points::default();
        }
        if callee.name().starts_with("llvm.ptr.annotation") {
            if let Some(Ok(kind)) = pointer_annotation(call) {
                let field = call.operand(0);
                let size = self.field_size(field).unwrap_or(8);
                return Points {
                    kind: Some(kind),
                    object: Some((field, size)),
                    ..Points::default()
                };
            }
            return (*self.points(call.operand(0))).clone();
        }
        let rule = attributes::rule(callee, self.sets);
        let (kind, align) = rule.map_or((None, None), |r| (r.returns, r.align));
        Points {
            kind,
            residue: align.filter(|&a| a >= GRANULE).map(|_| 0),
            ..Points::default()
        }
    }

    /// Size of the field that a GEP selects.
    fn field_size(&self, gep: Value) -> Option<u64> {
        if gep.opcode() != Some(Opcode::LLVMGetElementPtr) {
            return None;
        }
        let mut ty = gep.gep_source();
        for i in 2..gep.operands() {
            ty = match ty.is_struct() {
                true => ty.struct_field(gep.operand(i).as_u64()? as u32)?,
                false => ty.element()?,
            };
        }
        ty.is_sized().then(|| self.module.alloc_size(ty))
    }

    fn variable(&mut self, global: Value) -> Points<'a> {
        let declared = self.variables.get(&global).copied();
        let kind = declared.or_else(|| self.sets.global(global.name()).and_then(|r| r.kind));
        let ty = global.value_type();
        if kind.is_some() && ty.is_sized() {
            let object = Some((global, self.module.alloc_size(ty)));
            return Points {
                kind,
                object,
                ..Points::default()
            };
        }
        let places = self
            .structure(ty)
            .map(|(name, rule)| Place {
                name,
                rule,
                offset: 0,
                inexact: false,
            })
            .into_iter()
            .collect();
        Points {
            places,
            ..Points::default()
        }
    }

    /// Struct-path TBAA: `!{base, access, offset}`.
    fn path(&mut self, tag: Value) -> Rc<Points<'a>> {
        if let Some(known) = self.paths.get(&tag) {
            return known.clone();
        }
        let mut points = Points::default();
        let tag_operands = tag.node_operands();
        if let [Some(base), Some(_), Some(offset), ..] = tag_operands[..] {
            if let (true, Some(offset)) = (base.is_node(), offset.as_u64()) {
                self.walk_path(base, offset, &mut points.places);
            }
        }
        let points = Rc::new(points);
        self.paths.insert(tag, points.clone());
        points
    }

    fn walk_path(&self, mut node: Value, mut offset: u64, places: &mut Vec<Place<'a>>) {
        // Type nodes are !{name, member, offset, member, offset, ...}; scalars have one member.
        for _ in 0..16 {
            let operands = node.node_operands();
            let Some(Some(name)) = operands.first() else {
                return;
            };
            let Some(name) = name.metadata_string() else {
                return;
            };
            if let Some(rule) = self.sets.structure(name) {
                places.push(Place {
                    name,
                    rule,
                    offset,
                    inexact: false,
                });
            }
            let mut inside = None;
            for pair in operands[1..].chunks_exact(2) {
                if let [Some(member), Some(at)] = pair {
                    if let (true, Some(at)) = (member.is_node(), at.as_u64()) {
                        if at <= offset {
                            inside = Some((*member, at));
                        }
                    }
                }
            }
            let Some((member, at)) = inside.filter(|_| operands.len() > 3) else {
                return;
            };
            node = member;
            offset -= at;
        }
    }
}

/// The kind that all bytes of an access have; rules are sorted and do not overlap.
fn kind_in(rules: &[FieldRule], offset: u64, size: u64) -> Option<FieldKind> {
    let end = offset.checked_add(size)?;
    let first = rules.partition_point(|f| f.offset.saturating_add(f.size) <= offset);
    let kind = rules.get(first)?.kind;
    let mut covered = offset;
    for field in &rules[first..] {
        if field.offset > covered || field.kind != kind {
            return None;
        }
        covered = field.offset.saturating_add(field.size);
        if covered >= end {
            return Some(kind);
        }
    }
    None
}

/// The kind that an `llvm.ptr.annotation` call of ours gives, or what is wrong with it.
pub fn pointer_annotation(call: Value) -> Option<Result<FieldKind, String>> {
    let callee = call.callee();
    if !callee.is_function() || !callee.name().starts_with("llvm.ptr.annotation") {
        return None;
    }
    let text = call.operand(1).initializer()?.constant_string()?;
    text.strip_prefix(attributes::PREFIX)
        .map(attributes::field_kind)
}

/// Everything stored into a local variable, if its address goes nowhere else.
pub fn stored_values(alloca: Value) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    for user in alloca.users() {
        match user.opcode() {
            Some(Opcode::LLVMLoad) => {}
            Some(Opcode::LLVMStore) if user.operand(0) != alloca => values.push(user.operand(0)),
            Some(Opcode::LLVMCall)
                if user.callee().is_function()
                    && (user.callee().name().starts_with("llvm.lifetime.")
                        || user.callee().name().starts_with("llvm.dbg.")) => {}
            _ => return None,
        }
    }
    Some(values)
}
