#!/usr/bin/env bash
# Sets up, builds, and runs all tests; ends with one line `N passed, N failed`.
#
#   ci/test.sh              everything: the workspace, the loom models, CPython
#   ci/test.sh workspace    only this stage (or: loom, cpython, ame_cpython, domains, extensions), several if you like
#
# Each test of the workspace and each loom model counts as one; CPython's regression tests, which
# compare two builds test by test, count as one together, and so do those of AME CPython.
set -uo pipefail
cd "$(dirname "$0")/.."

passed=0
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

stage() { printf '\n== %s (%s)\n' "$1" "$(date -u +%H:%M:%S)"; }

finish() {
  echo "$passed passed, $failed failed"
  [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
  exit
}

# Runs a cargo test command and adds its counts. cargo test closes once for each binary; nextest once
# for all, after showing the output of failed tests, with closing lines of their own.
counted() {
  local ok=0 counts here_passed here_failed
  "$@" 2>&1 | tee "$log" && ok=1
  counts=$(awk '
    /^ *Summary .* run: / { summary = 1; delete of }
    /^ *Summary .* run: / || (/^test result: / && !summary) {
      for (i = 1; i < NF; i++) {
        if ($(i + 1) ~ /^passed/) of["passed"] += $i
        if ($(i + 1) ~ /^(failed|timed)/) of["failed"] += $i
      }
    }
    END { print of["passed"] + 0, of["failed"] + 0 }' "$log")
  read -r here_passed here_failed <<< "$counts"
  # A build error or a crash of the runner is a failure even where no test counted as one.
  if [ "$ok" = 0 ] && [ "$here_failed" = 0 ]; then here_failed=1; fi
  passed=$((passed + here_passed))
  failed=$((failed + here_failed))
}

workspace() {
  stage "tests of the workspace"
  if command -v cargo-nextest > /dev/null; then
    counted cargo nextest run --workspace --no-fail-fast --status-level fail --final-status-level fail
  else
    counted cargo test --workspace --no-fail-fast
  fi
}

loom() {
  stage "loom models of the runtime"
  # Another configuration of the same code: a target folder of its own keeps both builds warm.
  RUSTFLAGS='--cfg loom' counted cargo test --release -p ame-rt --test loom \
    --target-dir "${CARGO_TARGET_DIR:-target}/loom"
}

# Commands whose lists count as one test together.
whole() {
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
}

cpython() {
  stage "CPython 3.13.5, plain and with the plugin"
  whole tests/cpython/run
}

ame_cpython() {
    stage "AME CPython: solo, always in transactions, with rollbacks at random; conflict reports; everything shared; locks; extensions"
    whole tests/cpython/modes
    whole tests/cpython/modes --scripts
    whole tests/cpython/conflicts
    local program
    for program in "torture.py 20" one_generator.py interrupts.py frames.py turns.py new_threads.py specialised.py counts.py processes.py interpreters.py collector.py buffers.py reused.py uncommitted.py finalizers.py code_objects.py atomic_locks.py extensions.py big_block.py; do
        # shellcheck disable=SC2086
        whole "${CARGO_TARGET_DIR:-target}/release/ame" python run tests/cpython/$program
    done
}

domains() {
    stage "extensions with a GIL of their own, on free-threaded CPython and with the GIL, and without it there"
    whole tests/extensions/domains/run
    whole tests/extensions/elision/run
    whole tests/extensions/parallel/run
}

extensions() {
    stage "extensions from PyPI, built with ame ext build for free-threaded CPython, hammered"
    whole tests/extensions/run lru_dict immutables cdifflib --python free-threaded --ame --hammer 8
}

stages=("$@")
[ $# -gt 0 ] || stages=(workspace loom cpython ame_cpython domains extensions)
for name in "${stages[@]}"; do
  case "$name" in
    workspace | loom | cpython | ame_cpython | domains | extensions) ;;
    *) echo "usage: ci/test.sh [workspace] [loom] [cpython] [ame_cpython] [domains] [extensions]" >&2; exit 2 ;;
  esac
done

ci/setup.sh --tests || { failed=1; finish; }
export CARGO_TERM_COLOR=never INSTA_UPDATE=no
stage "release build"
# The end-to-end tests use it, as users do.
cargo build --release --workspace --quiet || { failed=1; finish; }
for name in "${stages[@]}"; do "$name"; done
stage "done"
finish
