//! The set libc and the runtime's wrappers belong together.

use ame_annotations::Sets;
use std::collections::BTreeSet;

/// The runtime's own list of its wrappers, read from its source: this crate must not depend on it.
const DIRECTORY: &str = include_str!("../../runtime/src/libc/directory.rs");

#[test]
fn every_replacement_is_a_wrapper_of_the_runtime_and_the_other_way_round() {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = DIRECTORY.split(|c: char| !is_name(c));
    let wrappers: BTreeSet<&str> = words.filter(|w| w.starts_with("ame_")).collect();
    let sets = Sets::builtin();
    let replacements = sets
        .functions()
        .filter_map(|(_, rule)| rule.replace.as_deref());
    let replacements: BTreeSet<&str> = replacements.collect();
    let missing: Vec<_> = replacements.difference(&wrappers).collect();
    assert!(missing.is_empty(), "the runtime has no {missing:?}");
    let unused: Vec<_> = wrappers.difference(&replacements).collect();
    assert!(unused.is_empty(), "libc.toml does not use {unused:?}");
}
