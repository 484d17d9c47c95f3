#!/usr/bin/env bash
# Copies a release build into a prefix: ci/install.sh [PREFIX], by default /usr/local.
# `ame` finds the plugin, the runtime, the header and what builds CPython relative to itself.
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=${1:-/usr/local}
built=${CARGO_TARGET_DIR:-target}/release
for file in ame ame-cc ame-cxx libame_pass.so libame_rt.so libame_rt.a; do
  if [ ! -f "$built/$file" ]; then
    echo "install: $built/$file not found: run cargo build --release first" >&2
    exit 1
  fi
done
install -d "$prefix/bin" "$prefix/lib" "$prefix/include"
install -m 755 "$built/ame" "$built/ame-cc" "$built/ame-cxx" "$prefix/bin"
install -m 644 "$built/libame_pass.so" "$built/libame_rt.so" "$built/libame_rt.a" "$prefix/lib"
install -m 644 annotations/include/ame.h "$prefix/include"
# What `ame python build` needs, laid out as here.
for file in annotations/include/*.h annotations/sets/*.toml runtime/include/ame_rt.h \
  cpython-shim/*.toml cpython-shim/src/* cpython-shim/python/*.py cpython-shim/recipe/*.py \
  cpython-shim/extension/*.h cpython-shim/extension/include/*.h; do
  install -D -m 644 "$file" "$prefix/share/ame/$file"
done
install -m 755 cpython-shim/build "$prefix/share/ame/cpython-shim"
"$prefix/bin/ame" doctor
