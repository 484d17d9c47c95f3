//! What sets say: kinds of bytes, functions, globals; overriding; layouts.

use ame_annotations::{FieldKind, FunctionKind, Len, Range, Sets};
use std::path::{Path, PathBuf};

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Sets `0.toml`, `1.toml`, ... in this order; `layout` is that of the first one.
fn load(texts: &[&str], layout: &str) -> Sets {
    let folder = tempfile::tempdir().unwrap();
    let files = texts.iter().enumerate();
    let paths: Vec<PathBuf> = files
        .map(|(i, text)| write(folder.path(), &format!("{i}.toml"), text))
        .collect();
    if !layout.is_empty() {
        write(folder.path(), "0.x86_64-linux.layout.toml", layout);
    }
    Sets::load_for(&paths, "x86_64-linux").unwrap_or_else(|e| panic!("{e}"))
}

const OFFSETS: &str = r#"
name = "offsets"
[struct.node]
key = { kind = "immutable", offset = 0, size = 8 }
hash = { kind = "immutable", offset = 8, size = 4 }
count = { kind = "counter", offset = 16, size = 4 }
"#;

#[test]
fn an_access_has_a_kind_when_all_its_bytes_have_it() {
    let sets = load(&[OFFSETS], "");
    let kind = |offset, size| sets.field_kind("node", offset, size);
    assert_eq!(kind(0, 8), Some(FieldKind::Immutable));
    assert_eq!(kind(3, 1), Some(FieldKind::Immutable));
    assert_eq!(kind(0, 12), Some(FieldKind::Immutable));
    assert_eq!(kind(0, 13), None);
    assert_eq!(kind(12, 4), None);
    assert_eq!(kind(16, 4), Some(FieldKind::Counter));
    assert_eq!(kind(8, 12), None);
    assert_eq!(kind(u64::MAX, 8), None);
    assert_eq!(sets.field_kind("other", 0, 8), None);
}

#[test]
fn structs_may_be_named_as_in_llvm() {
    let sets = load(&[OFFSETS], "");
    for name in ["node", "struct.node", "union.node", "struct.node.17"] {
        assert_eq!(
            sets.field_kind(name, 0, 8),
            Some(FieldKind::Immutable),
            "{name}"
        );
    }
    assert_eq!(sets.field_kind("struct.node.x", 0, 8), None);
}

const NAMES: &str = r#"
name = "names"
[struct.object]
refs = "refcount"
type = "immutable"
[struct.item]
align = 16
"*" = "private"
shared = "normal"
pos.x = "racy"
"*link" = "immutable"
"#;

const LAYOUT: &str = r#"
set = "names"
target = "x86_64-linux"
[struct.object]
size = 16
align = 8
fields = { refs = [0, 8], type = [8, 8] }
[struct.item]
size = 56
align = 8
embeds = [["object", 0]]
tail = 48
fields = { shared = [16, 8], "pos.x" = [24, 4], link = [32, 8] }
"#;

#[test]
fn embedded_structs_keep_their_rules_below_the_whole_rule() {
    let sets = load(&[NAMES], LAYOUT);
    let kind = |offset, size| sets.field_kind("struct.item", offset, size);
    assert_eq!(kind(0, 4), Some(FieldKind::Refcount));
    assert_eq!(kind(8, 8), Some(FieldKind::Immutable));
    assert_eq!(kind(16, 8), None);
    assert_eq!(kind(24, 4), Some(FieldKind::Racy));
    assert_eq!(kind(28, 4), Some(FieldKind::Private));
    let item = sets.structure("item").unwrap();
    assert_eq!((item.size, item.align), (Some(56), Some(16)));
}

#[test]
fn an_array_at_the_end_has_no_end() {
    let sets = load(&[NAMES], LAYOUT);
    assert_eq!(sets.field_kind("item", 48, 8), Some(FieldKind::Private));
    assert_eq!(sets.field_kind("item", 4096, 8), Some(FieldKind::Private));
    assert_eq!(sets.field_kind("object", 16, 8), None);
}

#[test]
fn what_a_field_points_to() {
    let sets = load(&[NAMES], LAYOUT);
    assert_eq!(sets.pointee_kind("item", 32, 8), Some(FieldKind::Immutable));
    assert_eq!(sets.field_kind("item", 32, 8), Some(FieldKind::Private));
    assert_eq!(sets.pointee_kind("item", 40, 8), None);
}

#[test]
fn rules_say_where_they_stand() {
    let sets = load(&[NAMES], LAYOUT);
    let rule = sets
        .fields("item")
        .iter()
        .find(|f| f.field == "pos.x")
        .unwrap();
    assert_eq!(rule.origin.line(), 10);
    assert!(rule.origin.file().ends_with("0.toml"));
}

#[test]
fn a_later_set_overrides_fields_functions_and_globals() {
    let first = r#"
        name = "first"
        [struct.s]
        a = { kind = "immutable", offset = 0, size = 8 }
        b = { kind = "immutable", offset = 8, size = 8 }
        [function.f]
        kind = "pure"
        reads = ["0, 8 bytes"]
        [[globals]]
        kind = "racy"
        names = ["g", "h"]
    "#;
    let second = r#"
        name = "second"
        [struct.s]
        b = { kind = "normal", offset = 8, size = 4 }
        [function.f]
        kind = "inevitable"
        [global]
        g = "normal"
    "#;
    let sets = load(&[first, second], "");
    assert_eq!(sets.field_kind("s", 0, 8), Some(FieldKind::Immutable));
    assert_eq!(sets.field_kind("s", 8, 4), None);
    assert_eq!(sets.field_kind("s", 12, 4), Some(FieldKind::Immutable));
    let f = sets.function("f").unwrap();
    assert_eq!((f.kind, f.reads.len()), (FunctionKind::Inevitable, 0));
    assert_eq!(sets.global("g").unwrap().kind, None);
    assert_eq!(sets.global("h").unwrap().kind, Some(FieldKind::Racy));
    assert_eq!(sets.names(), ["first", "second"]);

    let reversed = load(&[second, first], "");
    assert_eq!(reversed.field_kind("s", 8, 4), Some(FieldKind::Immutable));
    assert_eq!(reversed.function("f").unwrap().kind, FunctionKind::Pure);
}

#[test]
fn a_later_rule_for_the_whole_struct_starts_over() {
    let second = r#"
        name = "second"
        [struct.node]
        "*" = { kind = "normal", offset = 0, size = 20 }
        hash = { kind = "racy", offset = 8, size = 4 }
    "#;
    let sets = load(&[OFFSETS, second], "");
    assert_eq!(sets.field_kind("node", 0, 8), None);
    assert_eq!(sets.field_kind("node", 8, 4), Some(FieldKind::Racy));
}

#[test]
fn groups_and_patterns() {
    let sets = load(
        &[r#"
        name = "s"
        [[functions]]
        kind = "safe"
        names = ["lib_*", "*"]
        [[functions]]
        reason = "has its own"
        replace = "my_*"
        names = ["lib_open", "lib_close"]
        [function.lib_copy]
        instrument = false
        reads = ["1, 2"]
        writes = ["0, 1*2", "0, 2*4 bytes", "3, string", "3, string 2"]
        [[globals]]
        kind = "immutable"
        names = ["*_table"]
        "#],
        "",
    );
    let open = sets.function("lib_open").unwrap();
    assert_eq!(open.replace.as_deref(), Some("my_lib_open"));
    assert_eq!(open.kind, FunctionKind::Normal);
    assert_eq!(open.origin.reason(), Some("has its own"));
    assert_eq!(
        sets.function("lib_close").unwrap().replace.as_deref(),
        Some("my_lib_close")
    );
    assert_eq!(sets.function("lib_other").unwrap().origin.line(), 5);
    assert_eq!(sets.function("other").unwrap().kind, FunctionKind::Safe);
    let copy = sets.function("lib_copy").unwrap();
    assert_eq!(copy.kind, FunctionKind::Safe);
    assert_eq!(
        copy.reads,
        [Range {
            arg: 1,
            len: Len::Arg(2)
        }]
    );
    let lens: Vec<Len> = copy.writes.iter().map(|r| r.len).collect();
    assert_eq!(
        lens,
        [
            Len::Product(1, 2),
            Len::Scaled(2, 4),
            Len::CString(None),
            Len::CString(Some(2))
        ]
    );
    assert_eq!(
        sets.global("hash_table").unwrap().kind,
        Some(FieldKind::Immutable)
    );
    assert!(sets.global("table").is_none());
}

#[test]
fn ranges_print_as_they_are_written() {
    for text in [
        "0, 2",
        "0, 16 bytes",
        "0, 1*2",
        "0, 2*4 bytes",
        "0, string",
        "0, string 2",
    ] {
        assert_eq!(Range::parse(text).unwrap().to_string(), text);
    }
    assert_eq!(Range::parse(" 1 ,16bytes").unwrap().len, Len::Const(16));
}

#[test]
fn the_sets_that_come_with_ame_load() {
    let sets = Sets::builtin_and(&["cpython-3.13".into()]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(sets.names(), ["libc", "cpython-3.13"]);
    assert_eq!(
        sets.function("malloc").unwrap().replace.as_deref(),
        Some("ame_malloc")
    );
    assert_eq!(
        sets.function("memcpy").unwrap().writes,
        [Range {
            arg: 0,
            len: Len::Arg(2)
        }]
    );
    assert_eq!(sets.function("sin").unwrap().kind, FunctionKind::Pure);
    assert!(sets.function("unheard_of").is_none());
    // The type object at the start of a heap type, and the object at the start of that.
    let heap_type = |offset| sets.field_kind("struct._heaptypeobject", offset, 8);
    assert_eq!(heap_type(0), Some(FieldKind::Refcount));
    assert_eq!(heap_type(24), Some(FieldKind::Immutable));
    // Locals of a frame, which lie behind its declared end.
    let frame = |offset| sets.field_kind("struct._PyInterpreterFrame", offset, 8);
    assert_eq!(frame(800), Some(FieldKind::Private));
    assert_eq!(
        sets.pointee_kind("_PyInterpreterFrame", 56, 8),
        Some(FieldKind::Racy)
    );
    assert_eq!(
        sets.global("PyExc_TypeError").unwrap().kind,
        Some(FieldKind::Immutable)
    );
}
