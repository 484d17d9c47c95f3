#!/usr/bin/env bash
# Sets up, builds, and runs all tests of the workspace; ends with one line `N passed, N failed`.
#
#   ci/test.sh          everything
#   ci/test.sh NAME     tests whose name contains NAME
set -uo pipefail
cd "$(dirname "$0")/.."

ci/setup.sh --tests || exit 1
export CARGO_TERM_COLOR=never INSTA_UPDATE=no
# The end-to-end tests use the release build, as users do.
cargo build --release --workspace --quiet || { echo "0 passed, 1 failed"; exit 1; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT
code=0
if command -v cargo-nextest > /dev/null; then
  cargo nextest run --workspace --no-fail-fast --status-level fail \
    --final-status-level fail "$@" 2>&1 | tee "$log" || code=1
else
  cargo test --workspace --no-fail-fast "$@" 2>&1 | tee "$log" || code=1
fi

# Both runners close with their counts: nextest once, cargo test once for each binary.
counts=$(sed -nE \
  -e 's/^ *Summary .*: ([0-9]+) passed.*/\1 0/p' \
  -e 's/^ *Summary .* ([0-9]+) failed.*/0 \1/p' \
  -e 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed.*/\1 \2/p' "$log" |
  awk '{ passed += $1; failed += $2 } END { print passed + 0, failed + 0 }')
read -r passed failed <<< "$counts"
# A build error or a crash of the runner is a failure even where no test counted as one.
if [ "$code" != 0 ] && [ "$failed" = 0 ]; then failed=1; fi
if [ "$passed" = 0 ]; then code=1; fi
echo "$passed passed, $failed failed"
exit "$code"
