//! The little of libclang that the check needs, with owned strings and lifetimes.
//!
//! All of the crate's `unsafe` is here. libclang's rules: a cursor or type is valid as long as its
//! translation unit, which the lifetime `'u` says; a `CXString` is disposed once.

#![allow(unsafe_code)]
// libclang spells its constants so, also where they are patterns.
#![allow(non_upper_case_globals)]

use clang_sys::*;
use std::ffi::{c_char, c_int, c_uint, CStr, CString};
use std::marker::PhantomData;
use std::ptr;

/// Opens libclang for the calling thread. Repeated calls cost nothing.
pub(super) fn open_library() -> Result<(), String> {
    if is_loaded() {
        return Ok(());
    }
    load()
}

/// A parsed translation unit.
pub(super) struct Unit {
    index: CXIndex,
    unit: CXTranslationUnit,
}

/// What the bodies of functions are needed for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bodies {
    Skip,
    Parse,
}

impl Unit {
    /// Parses a file, or `text` in its place. The library must be open.
    pub fn parse(
        file: &str,
        text: Option<&str>,
        args: &[String],
        bodies: Bodies,
    ) -> Result<Unit, String> {
        let no_zero = |s: &str| CString::new(s).map_err(|_| format!("`{s}` contains a zero byte"));
        let file = no_zero(file)?;
        let args = args.iter().map(|a| no_zero(a));
        let args = args.collect::<Result<Vec<CString>, String>>()?;
        let pointers: Vec<*const c_char> = args.iter().map(|a| a.as_ptr()).collect();
        let count = c_int::try_from(pointers.len()).map_err(|_| "too many arguments")?;
        let mut unsaved = text.map(|text| CXUnsavedFile {
            Filename: file.as_ptr(),
            Contents: text.as_ptr().cast(),
            Length: text.len() as _,
        });
        let (unsaved, n_unsaved) = match &mut unsaved {
            Some(one) => (ptr::from_mut(one), 1),
            None => (ptr::null_mut(), 0),
        };
        let options = match bodies {
            Bodies::Skip => CXTranslationUnit_SkipFunctionBodies,
            Bodies::Parse => CXTranslationUnit_None,
        };
        // SAFETY: all pointers are to live zero-terminated strings or arrays of the given lengths,
        // which libclang copies what it needs of; the results are released in drop, once.
        unsafe {
            let index = clang_createIndex(0, 0);
            let mut unit = ptr::null_mut();
            let code = clang_parseTranslationUnit2(
                index,
                file.as_ptr(),
                pointers.as_ptr(),
                count,
                unsaved,
                n_unsaved,
                options,
                &mut unit,
            );
            if code != CXError_Success || unit.is_null() {
                clang_disposeIndex(index);
                return Err(format!("libclang cannot parse it (error {code})"));
            }
            Ok(Unit { index, unit })
        }
    }

    /// Messages of errors in the source, as the compiler prints them.
    pub fn errors(&self) -> Vec<String> {
        let mut all = Vec::new();
        // SAFETY: indices are below the count; each diagnostic is disposed once.
        unsafe {
            for i in 0..clang_getNumDiagnostics(self.unit) {
                let diagnostic = clang_getDiagnostic(self.unit, i);
                if clang_getDiagnosticSeverity(diagnostic) >= CXDiagnostic_Error {
                    let options = clang_defaultDiagnosticDisplayOptions();
                    all.push(owned(clang_formatDiagnostic(diagnostic, options)));
                }
                clang_disposeDiagnostic(diagnostic);
            }
        }
        all
    }

    /// The declarations at file scope, in order.
    pub fn declarations(&self) -> Vec<Cursor<'_>> {
        // SAFETY: the unit is live.
        let top = unsafe { clang_getTranslationUnitCursor(self.unit) };
        Cursor::new(top).children()
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // SAFETY: created in parse and disposed here only, the unit before its index.
        unsafe {
            clang_disposeTranslationUnit(self.unit);
            clang_disposeIndex(self.index);
        }
    }
}

/// A declaration or statement of a unit.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'u> {
    raw: CXCursor,
    unit: PhantomData<&'u Unit>,
}

/// What the check distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CursorKind {
    Record,
    Function,
    Variable,
    Typedef,
    Field,
    Other,
}

impl<'u> Cursor<'u> {
    fn new(raw: CXCursor) -> Self {
        Cursor {
            raw,
            unit: PhantomData,
        }
    }

    pub fn kind(self) -> CursorKind {
        match self.raw.kind {
            CXCursor_StructDecl | CXCursor_UnionDecl => CursorKind::Record,
            CXCursor_FunctionDecl => CursorKind::Function,
            CXCursor_VarDecl => CursorKind::Variable,
            CXCursor_TypedefDecl => CursorKind::Typedef,
            CXCursor_FieldDecl => CursorKind::Field,
            _ => CursorKind::Other,
        }
    }

    pub fn children(self) -> Vec<Cursor<'u>> {
        extern "C" fn collect(
            cursor: CXCursor,
            _: CXCursor,
            data: CXClientData,
        ) -> CXChildVisitResult {
            // SAFETY: data is the vector below, which nobody else uses during the visit.
            let all = unsafe { &mut *data.cast::<Vec<CXCursor>>() };
            all.push(cursor);
            CXChildVisit_Continue
        }
        let mut all: Vec<CXCursor> = Vec::new();
        // SAFETY: the cursor is of a live unit; the vector outlives the call.
        unsafe { clang_visitChildren(self.raw, collect, ptr::from_mut(&mut all).cast()) };
        all.into_iter().map(Cursor::new).collect()
    }

    /// The name in the source; empty or in parentheses when it has none.
    pub fn name(self) -> String {
        // SAFETY: the cursor is of a live unit.
        owned(unsafe { clang_getCursorSpelling(self.raw) })
    }

    /// The name in the object file, which an assembler label may have changed.
    pub fn symbol(self) -> String {
        // SAFETY: the cursor is of a live unit.
        owned(unsafe { clang_Cursor_getMangling(self.raw) })
    }

    /// The same for all declarations of one thing.
    pub fn identity(self) -> String {
        // SAFETY: the cursor is of a live unit.
        owned(unsafe { clang_getCursorUSR(clang_getCanonicalCursor(self.raw)) })
    }

    pub fn is_static(self) -> bool {
        // SAFETY: the cursor is of a live unit.
        unsafe { clang_Cursor_getStorageClass(self.raw) == CX_SC_Static }
    }

    pub fn ty(self) -> Type<'u> {
        // SAFETY: the cursor is of a live unit.
        Type::new(unsafe { clang_getCursorType(self.raw) })
    }

    /// Of a typedef: the type that it names.
    pub fn typedef_of(self) -> Type<'u> {
        // SAFETY: the cursor is of a live unit.
        Type::new(unsafe { clang_getTypedefDeclUnderlyingType(self.raw) })
    }

    /// Of a field: its first bit and its width in bits when it is a bit-field.
    pub fn bits(self) -> (Option<u64>, Option<u64>) {
        // SAFETY: the cursor is of a live unit.
        let (offset, width) = unsafe {
            let width = (clang_Cursor_isBitField(self.raw) != 0)
                .then(|| clang_getFieldDeclBitWidth(self.raw));
            (clang_Cursor_getOffsetOfField(self.raw), width)
        };
        (u64::try_from(offset).ok(), width.map(|w| w as u64))
    }
}

/// A type of a unit.
#[derive(Clone, Copy)]
pub(super) struct Type<'u> {
    raw: CXType,
    unit: PhantomData<&'u Unit>,
}

impl<'u> Type<'u> {
    /// Without typedefs and qualifiers.
    fn new(raw: CXType) -> Self {
        // SAFETY: the type is of a live unit.
        let raw = unsafe { clang_getCanonicalType(raw) };
        Type {
            raw,
            unit: PhantomData,
        }
    }

    /// Size and alignment in bytes; `None` for incomplete types.
    pub fn size_and_align(self) -> Option<(u64, u64)> {
        // SAFETY: the type is of a live unit.
        let (size, align) = unsafe {
            (
                clang_Type_getSizeOf(self.raw),
                clang_Type_getAlignOf(self.raw),
            )
        };
        Some((u64::try_from(size).ok()?, u64::try_from(align).ok()?))
    }

    /// Of a struct or union: its declaration.
    pub fn record(self) -> Option<Cursor<'u>> {
        // SAFETY: the type is of a live unit.
        let cursor = Cursor::new(unsafe { clang_getTypeDeclaration(self.raw) });
        (cursor.kind() == CursorKind::Record).then_some(cursor)
    }

    /// Of a struct or union: its members, the nameless ones too.
    pub fn fields(self) -> Vec<Cursor<'u>> {
        extern "C" fn collect(cursor: CXCursor, data: CXClientData) -> CXVisitorResult {
            // SAFETY: data is the vector below, which nobody else uses during the visit.
            let all = unsafe { &mut *data.cast::<Vec<CXCursor>>() };
            all.push(cursor);
            CXVisit_Continue
        }
        let mut all: Vec<CXCursor> = Vec::new();
        // SAFETY: the type is of a live unit; the vector outlives the call. Other types than
        // records have no fields. (Visiting children would leave out the nameless ones.)
        unsafe { clang_Type_visitFields(self.raw, collect, ptr::from_mut(&mut all).cast()) };
        all.into_iter().map(Cursor::new).collect()
    }

    /// Of an array of known length: type and number of its elements.
    pub fn elements(self) -> Option<(Type<'u>, u64)> {
        if self.raw.kind != CXType_ConstantArray {
            return None;
        }
        // SAFETY: the type is of a live unit.
        unsafe {
            let count = u64::try_from(clang_getArraySize(self.raw)).ok()?;
            Some((Type::new(clang_getArrayElementType(self.raw)), count))
        }
    }

    /// Of an array without a length, `T a[]`: the type of its elements.
    pub fn unbounded(self) -> Option<Type<'u>> {
        let unbounded = self.raw.kind == CXType_IncompleteArray;
        // SAFETY: the type is of a live unit.
        unbounded.then(|| Type::new(unsafe { clang_getArrayElementType(self.raw) }))
    }

    /// Of a function: the types of its fixed parameters.
    pub fn parameters(self) -> Vec<Type<'u>> {
        // SAFETY: the type is of a live unit; indices are below the count, -1 for no function.
        unsafe {
            let count = c_uint::try_from(clang_getNumArgTypes(self.raw)).unwrap_or(0);
            (0..count)
                .map(|i| Type::new(clang_getArgType(self.raw, i)))
                .collect()
        }
    }

    /// Also a union of pointers, which glibc's headers use for arguments (transparent unions).
    pub fn is_pointer(self) -> bool {
        let fields = self.fields();
        let union_of_pointers =
            !fields.is_empty() && fields.iter().all(|f| f.ty().raw.kind == CXType_Pointer);
        self.raw.kind == CXType_Pointer || union_of_pointers
    }

    /// Any type that can be converted to a length.
    pub fn is_integer(self) -> bool {
        (CXType_Bool..=CXType_Int128).contains(&self.raw.kind) || self.raw.kind == CXType_Enum
    }

    /// As the compiler prints it.
    pub fn spelling(self) -> String {
        // SAFETY: the type is of a live unit.
        owned(unsafe { clang_getTypeSpelling(self.raw) })
    }
}

fn owned(string: CXString) -> String {
    // SAFETY: libclang's strings are zero-terminated or null; the copy is made before the release.
    unsafe {
        let text = clang_getCString(string);
        let copy = if text.is_null() {
            String::new()
        } else {
            CStr::from_ptr(text).to_string_lossy().into_owned()
        };
        clang_disposeString(string);
        copy
    }
}
