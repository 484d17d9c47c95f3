//! What the pass makes of extension modules: who takes the domain, and when it is lent.

mod common;

use common::{functions, module, opt};

/// What `cpython-shim/extension/domain.h` defines.
const HEADER: &str = "
@ame_extension_domain = weak hidden global ptr null
declare void @ame_extension_enter(ptr)
declare void @ame_extension_enter_attached(ptr)
declare void @ame_extension_leave(ptr)
declare void @ame_extension_enter_dealloc(ptr, ptr)
declare void @ame_extension_leave_dealloc(ptr)
declare void @ame_extension_stop(ptr)
declare void @ame_extension_go_on(ptr)
declare ptr @ame_extension_module(ptr)
declare ptr @ame_extension_out()
declare ptr @ame_extension_out_to(ptr)
declare ptr @ame_extension_out_to_slot(ptr, ptr, ptr)
declare ptr @ame_extension_out_for(ptr, ptr)
declare ptr @ame_extension_out_for_items(ptr)
declare ptr @ame_extension_out_for_item(ptr, ptr)
declare void @ame_extension_back(ptr)
declare ptr @ame_extension_list_get_item(ptr, i64)
";

/// Variables and functions, but those of the header.
fn extension(ir: &str) -> String {
    let module = module(&format!("{HEADER}{ir}"), "ame-tag,ame-instrument", &[]);
    let variables = module
        .lines()
        .filter(|line| line.starts_with('@') && !line.starts_with("@ame_"));
    let mut text = variables.collect::<Vec<_>>().join("\n");
    text.push('\n');
    text + &functions(&module)
}

macro_rules! snapshot {
    ($($name:ident: $ir:expr;)*) => { $(
        #[test]
        fn $name() {
            insta::assert_snapshot!(extension($ir));
        }
    )* };
}

snapshot! {
    table_of_methods: "@table = internal global [1 x { ptr, ptr }] [{ ptr, ptr } { ptr null, ptr @f }]\ndefine internal ptr @f(ptr %self, ptr %argument) { ret ptr %argument }\ndefine ptr @direct(ptr %x) { %r = call ptr @f(ptr %x, ptr %x)\n ret ptr %r }";
    entries_that_only_the_interpreter_knows: "%struct.PyMethodDef = type { ptr, ptr, i32, ptr }\n@table = internal global [1 x %struct.PyMethodDef] [%struct.PyMethodDef { ptr null, ptr @f, i32 1, ptr null }]\ndefine internal ptr @f(ptr %self, ptr %argument) { ret ptr %argument }";
    entries_that_a_library_knows_too: "%struct.PyMethodDef = type { ptr, ptr, i32, ptr }\n@table = internal global [1 x %struct.PyMethodDef] [%struct.PyMethodDef { ptr null, ptr @f, i32 1, ptr null }]\ndeclare void @give(ptr)\ndefine void @g() { call void @give(ptr @f)\n ret void }\ndefine internal ptr @f(ptr %self, ptr %argument) { ret ptr %argument }";
    entries_known_to_other_files: "declare i32 @elsewhere(ptr)\ndefine i32 @here(ptr %p) { ret i32 0 }\ndefine ptr @g(i1 %c) { %p = select i1 %c, ptr @elsewhere, ptr @here\n ret ptr %p }";
    functions_of_python_and_the_c_library_have_no_thunk: "declare void @free(ptr)\ndeclare void @PyObject_Free(ptr)\n@t = global [2 x ptr] [ptr @free, ptr @PyObject_Free]";
    arguments_are_passed_as_they_came: "%s = type { i64, i64, i64 }\n@t = global ptr @f\ndefine internal void @f(ptr sret(%s) %out, i8 signext %c, ptr byval(%s) %in) { ret void }";
    collector_and_deallocator: "%struct.PyType_Slot = type { i32, ptr }\n@slots = internal global [3 x %struct.PyType_Slot] [%struct.PyType_Slot { i32 71, ptr @t }, %struct.PyType_Slot { i32 52, ptr @d }, %struct.PyType_Slot { i32 51, ptr @c }]\ndefine internal i32 @t(ptr %self, ptr %visit, ptr %arg) { ret i32 0 }\ndefine internal void @d(ptr %self) { ret void }\ndefine internal i32 @c(ptr %self) { ret i32 0 }";
    collector_that_is_stored: "%struct.PyModuleDef = type { i64, ptr, ptr, i64, ptr, ptr, ptr, ptr, ptr }\ndefine internal i32 @t(ptr %self, ptr %visit, ptr %arg) { ret i32 0 }\ndefine void @f(ptr %d) { %p = getelementptr inbounds %struct.PyModuleDef, ptr %d, i32 0, i32 6\n store ptr @t, ptr %p\n ret void }";
    initialisation: "declare ptr @PyModule_Create2(ptr, i32)\n@d = internal global i64 0\ndefine ptr @PyInit_m() { %m = call ptr @PyModule_Create2(ptr @d, i32 1013)\n ret ptr %m }";
    calls: "declare ptr @PyObject_CallNoArgs(ptr)\ndeclare ptr @PyTuple_New(i64)\ndeclare i64 @PyLong_AsLong(ptr)\ndeclare i64 @strlen(ptr)\ndeclare ptr @PyList_GetItem(ptr, i64)\ndefine void @f(ptr %o) { call ptr @PyObject_CallNoArgs(ptr %o)\n call ptr @PyTuple_New(i64 2)\n call i64 @PyLong_AsLong(ptr %o)\n call i64 @strlen(ptr %o)\n call ptr @PyList_GetItem(ptr %o, i64 0)\n call void %o()\n ret void }";
    formats: "declare i32 @PyArg_ParseTuple(ptr, ptr, ...)\n@simple = private constant [5 x i8] c\"OU:f\\00\"\n@runs = private constant [3 x i8] c\"Oi\\00\"\ndefine void @f(ptr %a, ptr %p) { call i32 (ptr, ptr, ...) @PyArg_ParseTuple(ptr %a, ptr @simple, ptr %p, ptr %p)\n call i32 (ptr, ptr, ...) @PyArg_ParseTuple(ptr %a, ptr @runs, ptr %p, ptr %p)\n ret void }";
    items_and_slots: "declare ptr @PyObject_GetItem(ptr, ptr)\ndefine void @f(ptr %o, ptr %slot) { call ptr @PyObject_GetItem(ptr %o, ptr %o)\n call ptr %slot(ptr %o, ptr %o)\n call ptr %slot(ptr %o, i64 1)\n ret void }";
    encodings: "declare ptr @PyUnicode_AsEncodedString(ptr, ptr, ptr)\n@ascii = private constant [6 x i8] c\"ascii\\00\"\n@pass = private constant [14 x i8] c\"surrogatepass\\00\"\ndefine void @f(ptr %s, ptr %name) { call ptr @PyUnicode_AsEncodedString(ptr %s, ptr null, ptr null)\n call ptr @PyUnicode_AsEncodedString(ptr %s, ptr @ascii, ptr null)\n call ptr @PyUnicode_AsEncodedString(ptr %s, ptr @ascii, ptr @pass)\n call ptr @PyUnicode_AsEncodedString(ptr %s, ptr %name, ptr null)\n ret void }";
    invoke: "declare void @PyErr_Print()\ndeclare i32 @personality(...)\ndefine i32 @f() personality ptr @personality { invoke void @PyErr_Print() to label %ok unwind label %bad\nok: ret i32 0\nbad: %x = landingpad { ptr, i32 } cleanup\n ret i32 1 }";
    functions_with_variable_arguments: "@t = global ptr @f\ndefine internal i32 @f(i32 %n, ...) { ret i32 %n }";
}

/// What `cpython-shim/extension/elision.h` defines.
const ELISION: &str = "
declare i32 @ame_extension_way(ptr, ptr, ptr)
declare void @ame_extension_rolled_back(ptr)
declare void @ame_extension_end(ptr)
declare ptr @ame_extension_made(ptr)
declare void @ame_extension_incref(ptr)
declare void @ame_extension_decref(ptr)
declare ptr @ame_extension_target(ptr)
declare ptr @ame_extension_out_to_target(ptr)
declare ptr @ame_extension_out_for_arguments(ptr, ptr, i64)
declare void @ame_extension_parsed_buffer(i32, ptr)
declare ptr @ame_extension_mem_malloc(i64)
declare ptr @ame_extension_list_item(ptr, i64)
";

/// What `cpython-shim/extension/parallel.h` and `gil.h` define.
const PARALLEL: &str = "
declare void @ame_extension_need_gil()
declare void @ame_extension_spare_gil()
declare void @ame_extension_keep_gil()
declare i32 @ame_extension_is_nested()
declare i32 @ame_extension_skips_traversal()
declare void @ame_extension_put_in_list(ptr, i64, ptr)
declare ptr @ame_extension_raw_malloc(i64)
";

/// On an interpreter with a GIL, where these functions run without it: before barriers are there.
fn parallel(functions_named: &str, ir: &str) -> String {
    let text = module(
        &format!("{HEADER}{ELISION}{PARALLEL}{ir}"),
        "ame-tag",
        &[
            ("AME_EXTENSION", "parallel"),
            ("AME_PARALLEL", functions_named),
        ],
    );
    functions(&text)
}

/// What the pass says of a file that it refuses.
fn refused(functions_named: &str, ir: &str) -> String {
    common::refused(
        &format!("{HEADER}{ELISION}{PARALLEL}{ir}"),
        "ame-tag",
        &[
            ("AME_EXTENSION", "parallel"),
            ("AME_PARALLEL", functions_named),
        ],
    )
}

macro_rules! parallel {
    ($($name:ident: $named:expr, $ir:expr;)*) => { $(
        #[test]
        fn $name() {
            insta::assert_snapshot!(parallel($named, $ir));
        }
    )* };
}

parallel! {
    parallel_entry_beside_one_that_is_not: "f", "@table = internal global [2 x ptr] [ptr @f, ptr @g]\ndefine internal ptr @f(ptr %self, ptr %argument) { ret ptr %argument }\ndefine internal ptr @g(ptr %self, ptr %argument) { ret ptr %self }";
    parallel_in_the_source: "", "@table = internal global [1 x ptr] [ptr @f]\n@text = private constant [13 x i8] c\"ame:parallel\\00\"\n@file = private constant [4 x i8] c\"x.c\\00\"\n@llvm.global.annotations = appending global [1 x { ptr, ptr, ptr, i32, ptr }] [{ ptr, ptr, ptr, i32, ptr } { ptr @f, ptr @text, ptr @file, i32 3, ptr null }]\ndefine internal ptr @f(ptr %self) { ret ptr %self }";
    parallel_where_it_needs_python: "all", "declare ptr @PyTuple_New(i64)\ndeclare ptr @PyMem_RawMalloc(i64)\ndeclare i32 @PyList_Reverse(ptr)\ndefine internal void @Py_INCREF(ptr %o) { ret void }\ndefine internal void @Py_DECREF(ptr %o) { ret void }\ndefine internal void @PyList_SET_ITEM(ptr %l, i64 %i, ptr %o) { ret void }\ndefine void @f(ptr %o) { call ptr @PyTuple_New(i64 2)\n call ptr @PyMem_RawMalloc(i64 2)\n call i32 @PyList_Reverse(ptr %o)\n call void @Py_INCREF(ptr %o)\n call void @Py_DECREF(ptr %o)\n call void @PyList_SET_ITEM(ptr %o, i64 0, ptr %o)\n ret void }";
    parallel_where_it_does_not: "all", "declare i64 @PyLong_AsLong(ptr)\ndeclare i64 @other_library(ptr)\ndeclare i64 @strlen(ptr)\n@table = internal global [1 x ptr] [ptr @f]\ndefine internal i64 @works(i64 %n) {\n br label %l\nl: %i = phi i64 [ 0, %0 ], [ %j, %l ]\n %j = add i64 %i, 1\n %c = icmp ult i64 %j, %n\n br i1 %c, label %l, label %e\ne: ret i64 %j }\ndefine internal i64 @converts(ptr %o) { %n = call i64 @PyLong_AsLong(ptr %o)\n ret i64 %n }\ndefine ptr @f(ptr %o) { %n = call i64 @converts(ptr %o)\n call i64 @strlen(ptr %o)\n call i64 @works(i64 %n)\n call i64 @other_library(ptr %o)\n br label %outer\nouter: %i = phi i64 [ 0, %0 ], [ %k, %after ]\n br label %inner\ninner: %j = phi i64 [ 0, %outer ], [ %l, %inner ]\n %l = add i64 %j, 1\n call i64 @works(i64 %l)\n %c = icmp ult i64 %l, %n\n br i1 %c, label %inner, label %after\nafter: %k = add i64 %i, 1\n %m = call i64 @converts(ptr %o)\n %d = icmp ult i64 %k, %m\n br i1 %d, label %outer, label %end\nend: ret ptr %o }";
    parallel_looks_into_a_list: "all", "%struct.PyListObject = type { i64, ptr, i64 }\n@table = internal global [1 x ptr] [ptr @f]\ndefine ptr @f(ptr %l) { %p = getelementptr inbounds %struct.PyListObject, ptr %l, i32 0, i32 1\n %v = load ptr, ptr %p\n br label %loop\nloop: %i = phi i64 [ 0, %0 ], [ %j, %loop ]\n %j = add i64 %i, 1\n %c = icmp ult i64 %j, 9\n br i1 %c, label %loop, label %e\ne: ret ptr %v }";
    parallel_traversal: "all", "%struct.PyType_Slot = type { i32, ptr }\n@slots = internal global [1 x %struct.PyType_Slot] [%struct.PyType_Slot { i32 71, ptr @t }]\ndefine internal i32 @t(ptr %self, ptr %visit, ptr %arg) { ret i32 0 }";
}

/// Where the error is, and what to do.
#[test]
fn parallel_functions_that_python_cannot_reach_are_refused() {
    let helper = "define internal void @helper() { ret void }\ndefine void @f() { call void @helper()\n ret void }";
    let message = refused("helper", helper);
    assert!(message.contains("helper: Python cannot reach"), "{message}");
    let annotated = "@text = private constant [13 x i8] c\"ame:parallel\\00\"\n\
        @file = private constant [4 x i8] c\"x.c\\00\"\n\
        @llvm.global.annotations = appending global [1 x { ptr, ptr, ptr, i32, ptr }] \
        [{ ptr, ptr, ptr, i32, ptr } { ptr @f, ptr @text, ptr @file, i32 3, ptr null }]\n\
        define void @f() { ret void }";
    let message = refused("", annotated);
    assert!(
        message.contains("x.c:3: f: Python cannot reach"),
        "{message}"
    );
}

/// Only the functions that a transaction runs, and the thunks: after the whole way.
fn elided(ir: &str) -> String {
    let text = module(
        &format!("{HEADER}{ELISION}{ir}"),
        "ame-tag,ame-instrument",
        &[("AME_ELIDE", "1")],
    );
    functions(&text)
}

macro_rules! elided {
    ($($name:ident: $ir:expr;)*) => { $(
        #[test]
        fn $name() {
            insta::assert_snapshot!(elided($ir));
        }
    )* };
}

elided! {
    elided_entry: "@table = internal global [1 x ptr] [ptr @f]\ndefine internal ptr @f(ptr %self, ptr %argument) { %p = getelementptr i64, ptr %self, i64 8\n store i64 1, ptr %p\n ret ptr %argument }";
    elided_calls_of_python: "declare ptr @PyObject_CallNoArgs(ptr)\ndeclare ptr @PyTuple_New(i64)\ndeclare i64 @PyLong_AsLong(ptr)\ndeclare i64 @PyTuple_Size(ptr)\ndeclare i32 @PyList_Reverse(ptr)\ndeclare ptr @PyMem_Malloc(i64)\ndeclare ptr @PyList_GetItem(ptr, i64)\ndefine internal void @Py_INCREF(ptr %o) { ret void }\ndefine void @f(ptr %o) { call ptr @PyObject_CallNoArgs(ptr %o)\n call ptr @PyTuple_New(i64 2)\n call i64 @PyLong_AsLong(ptr %o)\n call i64 @PyTuple_Size(ptr %o)\n call i32 @PyList_Reverse(ptr %o)\n call ptr @PyMem_Malloc(i64 8)\n call ptr @PyList_GetItem(ptr %o, i64 0)\n call void @Py_INCREF(ptr %o)\n call void %o()\n ret void }";
    elided_arguments: "declare i32 @PyArg_ParseTuple(ptr, ptr, ...)\n@format = private constant [4 x i8] c\"O|i\\00\"\n@shared = global ptr null\ndefine void @f(ptr %a) { %o = alloca ptr\n %i = alloca i32\n call i32 (ptr, ptr, ...) @PyArg_ParseTuple(ptr %a, ptr @format, ptr %o, ptr %i)\n call i32 (ptr, ptr, ...) @PyArg_ParseTuple(ptr %a, ptr @format, ptr @shared, ptr %i)\n ret void }";
    elided_results_in_memory: "declare i32 @PyArg_ParseTupleAndKeywords(ptr, ptr, ptr, ptr, ...)\n@format = private constant [12 x i8] c\"O!s*s#|dD:f\\00\"\n@names = internal global [2 x ptr] zeroinitializer\ndefine i32 @f(ptr %a, ptr %k, ptr %self) { %t = alloca ptr\n %n = alloca i64\n %b = alloca [80 x i8]\n %s = getelementptr i8, ptr %self, i64 32\n %d = getelementptr i8, ptr %self, i64 64\n %r = call i32 (ptr, ptr, ptr, ptr, ...) @PyArg_ParseTupleAndKeywords(ptr %a, ptr %k, ptr @format, ptr @names, ptr %t, ptr %self, ptr %b, ptr %s, ptr %n, ptr %n, ptr %d)\n ret i32 %r }";
    elided_c_library: "declare ptr @malloc(i64)\ndeclare void @free(ptr)\ndeclare i64 @strlen(ptr)\ndeclare i32 @puts(ptr)\ndeclare i32 @elsewhere(ptr)\n@t = global ptr @free\ndefine i64 @f(ptr %p) { %b = call ptr @malloc(i64 8)\n call void @free(ptr %p)\n call i32 @puts(ptr %p)\n call i32 @elsewhere(ptr %p)\n %n = call i64 @strlen(ptr %p)\n ret i64 %n }";
    elided_reads_of_objects: "%struct._object = type { i64, i16, i8, i8, i32, i64, ptr }\n%struct.own = type { %struct._object, i64 }\ndefine ptr @f(ptr %o) { %t = getelementptr inbounds %struct._object, ptr %o, i32 0, i32 6\n %type = load ptr, ptr %t\n %p = getelementptr inbounds %struct.own, ptr %o, i32 0, i32 1\n %n = load i64, ptr %p\n %local = alloca i64\n store i64 %n, ptr %local\n call void @g(ptr %local)\n ret ptr %type }\ndefine internal void @g(ptr %p) noinline { store i64 2, ptr %p\n ret void }";
}

/// In a file without the header bodies are entered through the mode of the thread.
#[test]
fn other_files_of_an_extension_have_bodies() {
    let ir =
        "@t = global ptr @f\ndefine internal void @f(ptr %p) { store i64 1, ptr %p\n ret void }";
    insta::assert_snapshot!(opt(
        ir,
        "ame-tag,ame-instrument",
        &[("AME_EXTENSION", "free-threaded"), ("AME_ELIDE", "1")],
    ));
}

/// What domain.h keeps for a thread must not be freed by a rollback.
#[test]
fn the_header_has_its_own_blocks() {
    let ir = "declare ptr @malloc(i64)\n\
        define ptr @ame_extension_grow() { %p = call ptr @malloc(i64 8)\n ret ptr %p }\n\
        define ptr @f() { %p = call ptr @malloc(i64 8)\n ret ptr %p }";
    let text = elided(ir);
    let body = |name: &str| {
        let from = text.find(&format!("@{name}()")).unwrap();
        text[from..].split('}').next().unwrap().to_owned()
    };
    assert!(body("ame_extension_grow").contains("@malloc("), "{text}");
    assert!(body("f").contains("@ame_elision_malloc("), "{text}");
}

/// Run twice, and in a file that has been done, nothing changes.
#[test]
fn bodies_are_made_once() {
    let ir = format!("{HEADER}{ELISION}@t = global ptr @f\ndefine internal ptr @f(ptr %p) {{ store i64 1, ptr %p\n ret ptr %p }}");
    let on = &[("AME_ELIDE", "1")];
    let once = module(&ir, "ame-tag,ame-instrument", on);
    assert_eq!(
        functions(&once),
        functions(&module(&once, "ame-tag,ame-instrument", on))
    );
}

/// No barriers, and no change at all where the header is not.
#[test]
fn other_files_of_an_extension_stay_plain() {
    let ir = "define void @f(ptr %p) { store i64 1, ptr %p\n ret void }";
    let plain = opt(
        ir,
        "ame-tag,ame-instrument",
        &[("AME_EXTENSION", "free-threaded")],
    );
    assert!(!plain.contains("ame"), "{plain}");
    let with_barriers = opt(ir, "ame-tag,ame-instrument", &[]);
    assert!(with_barriers.contains("ame_write_slow"), "{with_barriers}");
}

/// JSON lines for `ame ext check`.
#[test]
fn what_cannot_be_made_safe_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let remarks = folder.path().join("remarks");
    let ir = "%struct.PyListObject = type { i64, ptr, i64 }\n\
        %struct.PyMemberDef = type { ptr, i32, i64, i32, ptr }\n\
        @members = global [2 x %struct.PyMemberDef] [%struct.PyMemberDef { ptr null, i32 16, i64 16, i32 0, ptr null }, \
        %struct.PyMemberDef { ptr null, i32 1, i64 24, i32 0, ptr null }]\n\
        @readonly = global [1 x %struct.PyMemberDef] [%struct.PyMemberDef { ptr null, i32 16, i64 16, i32 1, ptr null }]\n\
        define ptr @f(ptr %l) { %p = getelementptr inbounds %struct.PyListObject, ptr %l, i32 0, i32 1\n \
        %v = load ptr, ptr %p\n ret ptr %v }";
    let path = remarks.to_str().unwrap();
    opt(
        &format!("{HEADER}{ir}"),
        "ame-tag",
        &[("AME_PASS_REMARKS", path)],
    );
    let text = std::fs::read_to_string(&remarks).unwrap();
    let rules: Vec<(String, String)> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|r| {
            (
                r["rule"].as_str().unwrap().into(),
                r["function"].as_str().unwrap().into(),
            )
        })
        .collect();
    let expected = [("list_items", "f"), ("object_member", "")];
    assert_eq!(
        rules,
        expected.map(|(rule, f)| (rule.to_owned(), f.to_owned()))
    );
    assert!(text.contains("\"variable\":\"members\""), "{text}");
}
