//! What the end-to-end tests share: finding `ame`, compiling C with it, running the result.
//!
//! The tests use the built artifacts as a user would, through the `ame` binary. Build the workspace
//! first (`cargo build --release`). `AME` names another `ame` to test.
//!
//! Compiled programs stay in `<target>/ame-tests/`, so that the command a failure prints can be
//! run again by hand.

#![forbid(unsafe_code)]

mod build;
mod run;

pub use build::{ame, compile, compile_plain, plain_object, scratch, Level, Unit};
pub use run::{Output, Run};

use std::path::PathBuf;

/// The root of the repository.
pub fn root() -> PathBuf {
    let crate_folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    crate_folder
        .parent()
        .expect("the crate is in a folder of the repository")
        .to_path_buf()
}
