//! The check against headers: small ones with every kind of mistake, and the C library's real ones.

#![cfg(feature = "check")]

use ame_annotations::check::{check, LayoutState, Options, Report};
use ame_annotations::{FieldKind, Sets};
use std::path::{Path, PathBuf};

const HEADER: &str = r#"
#include <stddef.h>
struct refs { long count; };
typedef struct { int x, y; } point;
struct node {
    struct refs refs;
    union { long word; char bytes[8]; };
    point at[3];
    unsigned flags : 4, colour : 12;
    struct { int depth; } stats;
    void *items[1];
};
typedef struct node Node;
extern int table[4];
void node_copy(struct node *to, const void *from, size_t n);
static inline int node_depth(const struct node *n) { return n->stats.depth; }
"#;

const SOURCE: &str = r#"
#include "node.h"
static int hits;
static int lookup(int key) { static int cache[8]; return cache[key & 7] + hits++; }
int find(int key) { return lookup(key); }
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(set: &str) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        for (name, text) in [("node.h", HEADER), ("find.c", SOURCE), ("s.toml", set)] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn options(&self, write_layout: bool) -> Options {
        Options {
            set: self.path().join("s.toml"),
            includes: vec!["node.h".into(), "find.c".into()],
            root: Some(self.path().to_owned()),
            write_layout,
            target: Some("x86_64-linux".into()),
            ..Options::default()
        }
    }

    fn check(&self, write_layout: bool) -> Report {
        check(&self.options(write_layout)).unwrap_or_else(|e| panic!("{e}"))
    }

    fn without_path(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.path().display()), "")
    }
}

const GOOD: &str = r#"
name = "good"
[struct.refs]
count = "refcount"
[struct.node]
"*" = "private"
word = "racy"
"at[1].y" = "immutable"
colour = "normal"
stats.depth = "immutable"
"*items" = "immutable"
[struct.point]
x = { kind = "private", offset = 0, size = 4 }
[function.node_copy]
kind = "pure"
reads = ["1, 2"]
writes = ["0, 2", "0, 64 bytes"]
[[functions]]
kind = "safe"
names = ["node_depth", "find", "lookup", "node_*"]
[[globals]]
kind = "racy"
names = ["table", "hits", "lookup.cache", "look*"]
"#;

#[test]
fn a_right_set_and_its_layout() {
    let folder = Folder::new(GOOD);
    let missing = folder.check(false);
    assert!(!missing.is_ok());
    insta::assert_snapshot!("layout_missing", folder.without_path(&missing.to_string()));

    let report = folder.check(true);
    insta::assert_snapshot!("good", folder.without_path(&report.to_string()));
    let layout_path = folder.path().join("s.x86_64-linux.layout.toml");
    assert_eq!(report.layout, LayoutState::Written(layout_path.clone()));
    insta::assert_snapshot!("good_layout", std::fs::read_to_string(layout_path).unwrap());
    assert!(matches!(
        folder.check(false).layout,
        LayoutState::Matches(_)
    ));

    let sets = Sets::load_for(&[folder.path().join("s.toml")], "x86_64-linux").unwrap();
    let kind = |offset, size| sets.field_kind("struct.node", offset, size);
    assert_eq!(kind(0, 8), Some(FieldKind::Refcount));
    assert_eq!(kind(8, 8), Some(FieldKind::Racy));
    // at[0].x and at[2].x by the rule of the embedded point, at[1].y by its own.
    assert_eq!(kind(16, 4), Some(FieldKind::Private));
    assert_eq!(kind(28, 4), Some(FieldKind::Immutable));
    assert_eq!(kind(40, 2), None);
    assert_eq!(kind(44, 4), Some(FieldKind::Immutable));
    assert_eq!(kind(480, 8), Some(FieldKind::Private));
}

#[test]
fn everything_that_is_missing_is_listed() {
    let folder = Folder::new(
        r#"
name = "bad"
[struct.Node]
word = "private"
[struct.nod]
word = "private"
[struct.entirely_else]
word = "private"
[struct.node]
wrod = "private"
missing = "private"
"at[3].x" = "private"
"stats[0].depth" = "private"
flags = { kind = "immutable", offset = 12, size = 4 }
[function.node_copi]
kind = "pure"
[function.node_copy]
reads = ["2, 1", "1, 3", "1, 0"]
[function.not_in_headers]
kind = "pure"
declared = false
[[functions]]
kind = "safe"
names = ["edge_*"]
[[globals]]
kind = "racy"
names = ["tabel", "find.cache", "edge_*"]
"#,
    );
    insta::assert_snapshot!(folder.without_path(&folder.check(true).to_string()));
}

#[test]
fn a_changed_header_is_noticed() {
    let folder = Folder::new(GOOD);
    folder.check(true);
    let changed = HEADER.replace("struct refs refs;", "long before; struct refs refs;");
    std::fs::write(folder.path().join("node.h"), changed).unwrap();
    insta::assert_snapshot!(folder.without_path(&folder.check(false).to_string()));

    // A layout that cannot even be read does not stand in the way of a new one.
    let layout = folder.path().join("s.x86_64-linux.layout.toml");
    std::fs::write(&layout, "broken").unwrap();
    assert!(check(&folder.options(false)).is_err());
    assert!(folder.check(true).is_ok());
    assert!(folder.check(false).is_ok());
}

#[test]
fn headers_that_do_not_compile() {
    let folder = Folder::new(GOOD);
    let mut options = folder.options(false);
    options.includes = vec!["nod.h".into()];
    let error = check(&options).unwrap_err();
    insta::assert_snapshot!("no_header", folder.without_path(&error.to_string()));
    options.includes = vec!["find.cc".into(), "missing.c".into()];
    assert!(check(&options).is_err());
    options.includes.clear();
    let error = check(&options).unwrap_err();
    insta::assert_snapshot!("nothing_to_check", folder.without_path(&error.to_string()));
}

#[test]
fn a_set_in_the_binary_has_no_place_for_a_layout() {
    let options = Options {
        set: PathBuf::from("cpython-3.13"),
        write_layout: true,
        ..Options::default()
    };
    insta::assert_snapshot!(check(&options).unwrap_err().to_string());
}

/// Every function of the set is declared, and has the arguments that its ranges speak of.
#[test]
fn libc_against_its_real_headers() {
    let options = Options {
        set: PathBuf::from("libc"),
        ..Options::default()
    };
    let report = check(&options).unwrap_or_else(|e| panic!("{e}"));
    assert!(report.is_ok(), "{report}");
    assert!(report.functions > 1000, "{report}");
}
