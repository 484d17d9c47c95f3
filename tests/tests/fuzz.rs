//! A few programs of `pass/fuzz`, so that it keeps working; `pass/fuzz/run 300` is the real thing.

use ame_tests::{ame, root};
use std::process::Command;

#[test]
fn random_programs() {
    // The last one is what found that a rollback restored frames before the log.
    for (programs, first) in [("7", "3"), ("1", "259")] {
        let out = Command::new(root().join("pass/fuzz/run"))
            .env_remove("LD_LIBRARY_PATH")
            .args([programs, first])
            .env("AME", ame())
            .output()
            .expect("pass/fuzz/run can be started");
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(
            out.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
}
