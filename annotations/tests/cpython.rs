//! The set cpython-3.13 against a real source tree.

#![cfg(feature = "check")]

use ame_annotations::check::{check, LayoutState, Options};

/// `AME_CPYTHON_SOURCE` is a configured tree of CPython 3.13.5 (`bench/cpython/cpython build plain`
/// makes one).
#[test]
#[ignore = "needs AME_CPYTHON_SOURCE"]
fn cpython_against_its_real_headers_and_sources() {
    let root = std::env::var_os("AME_CPYTHON_SOURCE").expect("AME_CPYTHON_SOURCE is not set");
    let options = Options {
        set: "cpython-3.13".into(),
        root: Some(root.into()),
        ..Options::default()
    };
    let report = check(&options).unwrap_or_else(|e| panic!("{e}"));
    assert!(report.is_ok(), "{report}");
    assert!(matches!(report.layout, LayoutState::Matches(_)), "{report}");
}
