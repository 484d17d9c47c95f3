#!/usr/bin/env bash
# Compiles examples/bank.c with the plugin, runs it beside the same program with one mutex, and shows
# where transactions are in each other's way; builds CPython whose threads run in parallel, and runs
# examples/threads.py on it and on the same CPython without. Sets up and builds first.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }
show() {
  printf '$ %s\n' "$*"
  "$@"
}

ci/setup.sh
step "Building Ame (the first time this takes minutes)"
show cargo build --release --quiet
built=${CARGO_TARGET_DIR:-target}/release
out=$built/ame-demo
mkdir -p "$out"

step "Compiling examples/bank.c: with transactions, and with one mutex"
show clang-19 -O2 -g -pthread -fpass-plugin="$built/libame_pass.so" -Iannotations/include \
  examples/bank.c -L"$built" -lame_rt -Wl,-rpath,"$(cd "$built" && pwd)" -o "$out/bank"
show clang-19 -O2 -g -pthread -DUSE_MUTEX examples/bank.c -o "$out/bank-mutex"

step "Running both on 2 threads"
show "$out/bank-mutex" 2
show "$out/bank" 2

step "Where transactions meet: a cache whose readers write (examples/lru.c)"
show "$built/ame" cc -O2 -g -pthread examples/lru.c -o "$out/lru"
show env AME_LOG="$out/lru.trace" "$out/lru" 2 0.5
show "$built/ame" report "$out/lru.trace" --top 3
"$built/ame" report "$out/lru.trace" --html "$out/lru.html"
printf '\nThe same as a page with a chart: %s\n' "$out/lru.html"

step "Building CPython, as it is and with parallel threads (the first time this takes minutes; kept in ~/.cache/ame)"
plain=$("$built/ame" python path --gil)
show "$built/ame" python build

step "A Python program with two threads: CPython, AME CPython, and where its threads meet"
show env PYTHONPATH=cpython-shim/python "$plain" examples/threads.py 2
show "$built/ame" python run examples/threads.py 2
show env AME_LOG="$out/threads.trace" "$built/ame" python run examples/threads.py 2 1000
show "$built/ame" report "$out/threads.trace" --top 3
