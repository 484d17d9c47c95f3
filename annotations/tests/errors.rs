//! What is said about sets that are wrong: every message with place and advice, as snapshots.

use ame_annotations::Sets;
use std::path::PathBuf;

/// Loads texts as the sets `one.toml`, `two.toml`; the error without the folder's path.
fn error_of(texts: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut paths: Vec<PathBuf> = Vec::new();
    for (text, name) in texts.iter().zip(["one.toml", "two.toml"]) {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        paths.push(path);
    }
    let error = Sets::load_for(&paths, "x86_64-linux").expect_err("the set is wrong");
    let here = format!("{}/", folder.path().display());
    error.to_string().replace(&here, "")
}

macro_rules! errors {
    ($($name:ident: $($text:expr),+;)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!(error_of(&[$($text),+]));
        })*
    };
}

errors! {
    not_toml: "name = \"x\"\n[struct.node\nkey = 1\n";
    no_name: "[struct.node]\nkey = { kind = \"immutable\", offset = 0, size = 8 }\n";
    unknown_top_key: "name = \"x\"\n[structs.node]\n";
    unknown_field_kind: "name = \"x\"\n[struct.node]\nkey = \"imutable\"\n";
    unknown_field_kind_without_near_one: "name = \"x\"\n[struct.node]\nkey = \"shared\"\n";
    kind_is_no_string: "name = \"x\"\n[struct.node]\nkey = 7\n";
    no_field_path: "name = \"x\"\n[struct.node]\n\"a..b\" = \"private\"\n\"a.*\" = \"private\"\n";
    alignment: "name = \"x\"\n[struct.node]\nalign = 12\n";
    half_an_offset: "name = \"x\"\n[struct.node]\nkey = { kind = \"immutable\", offset = 8 }\n";
    unknown_key_of_field:
        "name = \"x\"\n[struct.node]\nkey = { kind = \"racy\", offset = 8, size = 8, length = 1 }\n";
    count_of_odd_size:
        "name = \"x\"\n[struct.node]\ncount = { kind = \"counter\", offset = 8, size = 3 }\n";
    whole_struct_counts: "name = \"x\"\n[struct.node]\n\"*\" = \"refcount\"\n";
    pointee_counts: "name = \"x\"\n[struct.node]\n\"*next\" = \"refcount\"\n";
    overlap: "name = \"x\"\n[struct.node]\n\
              a = { kind = \"immutable\", offset = 0, size = 8 }\n\
              b = { kind = \"private\", offset = 4, size = 8 }\n";
    same_field_twice: "name = \"x\"\n[struct.node]\nkey = \"racy\"\nkey = \"private\"\n";
    no_layout: "name = \"x\"\n[struct.node]\nkey = \"immutable\"\nnext = \"private\"\n";
    unknown_function_kind: "name = \"x\"\n[function.f]\nkind = \"save\"\n";
    unknown_key_of_function: "name = \"x\"\n[function.f]\nread = [\"0, 1\"]\n";
    bad_range: "name = \"x\"\n[function.f]\nreads = [\"0\", \"a, 1\", \"0, 4 byte\"]\n";
    instrument_and_kind: "name = \"x\"\n[function.f]\nkind = \"pure\"\ninstrument = false\n";
    accesses_count: "name = \"x\"\n[function.f]\naccesses = \"counter\"\n";
    function_twice:
        "name = \"x\"\n[[functions]]\nkind = \"pure\"\nnames = [\"f\", \"g\"]\n[function.g]\nkind = \"safe\"\n";
    group_without_names: "name = \"x\"\n[[functions]]\nkind = \"pure\"\n";
    global_twice:
        "name = \"x\"\n[[globals]]\nkind = \"racy\"\nnames = [\"g\", \"g\"]\n";
    global_group_without_kind: "name = \"x\"\n[[globals]]\nnames = [\"g\"]\n";
    all_problems_of_all_sets: "name = \"x\"\n[function.f]\nkind = \"pur\"\n[struct.s]\na = \"b\"\n",
        "nome = \"y\"\n";
}

#[test]
fn no_such_file() {
    let error = Sets::load(&[PathBuf::from("no/such/set.toml")]).unwrap_err();
    insta::assert_snapshot!(error.to_string());
}

#[test]
fn columns_count_characters_not_bytes() {
    let text =
        "name = \"x\"\nfunctions = [{ reason = \"ändert nichts\", kind = \"purr\", names = [] }]\n";
    insta::assert_snapshot!(error_of(&[text]));
}

/// A layout that does not fit its set.
#[test]
fn stale_layout() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("s.toml");
    std::fs::write(
        &set,
        "name = \"s\"\n[struct.node]\nkey = \"immutable\"\nnext = \"counter\"\nnew = \"racy\"\n",
    )
    .unwrap();
    let layout = "[struct.node]\nsize = 16\nalign = 8\nfields = { key = [0, 8], next = [8, 2] }\n";
    std::fs::write(folder.path().join("s.x86_64-linux.layout.toml"), layout).unwrap();
    let error = Sets::load_for(&[set], "x86_64-linux").unwrap_err();
    let here = format!("{}/", folder.path().display());
    insta::assert_snapshot!(error.to_string().replace(&here, ""));
}

#[test]
fn broken_layout() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("s.toml");
    std::fs::write(&set, "name = \"s\"\n[struct.node]\nkey = \"immutable\"\n").unwrap();
    let layout = "[struct.node]\nsize = \"16\"\nfields = { key = [0] }\nother = 1\n";
    std::fs::write(folder.path().join("s.x86_64-linux.layout.toml"), layout).unwrap();
    let error = Sets::load_for(&[set], "x86_64-linux").unwrap_err();
    let here = format!("{}/", folder.path().display());
    insta::assert_snapshot!(error.to_string().replace(&here, ""));
}

/// A rule was taken out of the set, so what the layout says about embedded structs may be too little.
#[test]
fn layout_of_a_larger_set() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("s.toml");
    std::fs::write(&set, "name = \"s\"\n[struct.node]\nkey = \"immutable\"\n").unwrap();
    let layout = "[struct.node]\nsize = 16\nalign = 8\nfields = { key = [0, 8], old = [8, 8] }\n";
    std::fs::write(folder.path().join("s.x86_64-linux.layout.toml"), layout).unwrap();
    let error = Sets::load_for(&[set], "x86_64-linux").unwrap_err();
    let here = format!("{}/", folder.path().display());
    insta::assert_snapshot!(error.to_string().replace(&here, ""));
}
