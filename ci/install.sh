#!/usr/bin/env bash
# Copies a release build into a prefix: ci/install.sh [PREFIX], by default /usr/local.
# `ame` finds the plugin, the runtime and the header relative to itself.
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
"$prefix/bin/ame" doctor
