//! The benchmark programs keep their invariants on every back end: a short run of `bench/stm/run`.

use ame_tests::{ame, root, scratch};
use std::process::Command;

#[test]
fn stm_benchmarks_run_and_keep_their_invariants() {
    let folder = scratch("bench-stm");
    let output = Command::new("python3")
        .arg(root().join("bench/stm/run"))
        .args(["--runs", "1", "--seconds", "0.02", "--ame"])
        .arg(ame())
        .arg("--build-dir")
        .arg(&folder)
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .expect("python3 can be started");
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(folder.join("results.json").is_file());
}
