//! Uses of memory that only the GIL made safe, and that no function can be put in the place of.

use super::{is_api, is_glue, Extension};
use crate::ffi::{Opcode, Value};
use crate::report::Report;

/// Fields of CPython's containers that other threads change: struct, number of the field, and what to do.
const SHARED: [(&str, u32, &str, &str); 4] = [
    (
        "struct.PyListObject",
        1,
        "list_items",
        "the items of a list are read or written directly (ob_item, PySequence_Fast_ITEMS): another thread may \
         change the list meanwhile; use PyList_GetItemRef, or a tuple",
    ),
    (
        "struct.PyDictObject",
        3,
        "dict_keys",
        "the table of a dictionary is used directly: another thread may change it meanwhile; use PyDict_Next",
    ),
    (
        "struct._PyWeakReference",
        1,
        "weakref_object",
        "the object of a weak reference is read directly: another thread may free it meanwhile; use \
         PyWeakref_GetRef",
    ),
    (
        "struct.PyCellObject",
        1,
        "cell_object",
        "the object in a cell is read directly: another thread may free it meanwhile; use PyCell_Get",
    ),
];

/// `Py_T_OBJECT_EX` and `_Py_T_OBJECT` of PyMemberDef.
const OBJECT_MEMBERS: [u64; 2] = [16, 6];
const READONLY: u64 = 1;

pub fn write(extension: &Extension, report: &mut Report) {
    let bodies: Vec<Value> = extension
        .module
        .functions()
        // Functions of CPython's headers are for what nobody shares yet, or right.
        .filter(|f| !f.is_declaration() && !is_glue(*f) && !is_api(f.name()))
        .collect();
    for function in bodies {
        for at in function.blocks().flat_map(|b| b.instructions()) {
            if at.opcode() == Some(Opcode::LLVMGetElementPtr) {
                if let Some((rule, what)) = shared_field(extension, at) {
                    report.count("direct_accesses");
                    report.rule(function, at, "direct", rule, what);
                }
            }
        }
    }
    for table in extension.module.globals() {
        if table.initializer().is_some_and(has_writable_object) {
            report.count("object_members");
            report.about_variable(
                table,
                "object_member",
                "PyMemberDef lets Python code set a field that holds an object, without the domain: use getset \
                 functions, or make it Py_READONLY",
            );
        }
    }
}

pub fn shared_field(extension: &Extension, gep: Value) -> Option<(&'static str, &'static str)> {
    let source = gep.gep_source();
    let name = source.struct_name()?;
    let offset = extension.module.gep_offset(gep)?;
    SHARED.iter().find_map(|(structure, field, rule, what)| {
        let is_it = name == *structure
            && *field < source.struct_fields()
            && offset == extension.module.field_offset(source, *field) as i64;
        is_it.then_some((*rule, *what))
    })
}

/// `PyMemberDef` is name, type, offset, flags, doc.
fn has_writable_object(value: Value) -> bool {
    if value.ty().struct_name() == Some("struct.PyMemberDef") {
        return value.operands() == 5
            && value
                .operand(1)
                .as_u64()
                .is_some_and(|ty| OBJECT_MEMBERS.contains(&ty))
            && value.operand(3).as_u64().is_some_and(|f| f & READONLY == 0);
    }
    value.ty().element().is_some()
        && (0..value.operands()).any(|i| has_writable_object(value.operand(i)))
}
