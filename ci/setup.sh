#!/usr/bin/env bash
# Installs what building and testing Ame takes, on Debian 12 (as root, or with sudo).
#
#   ci/setup.sh          what a user needs: compiler, LLVM, Rust, what CPython is built with
#   ci/setup.sh --tests  and what the tests need
#
# Says what it installs, is silent about what is there, and can be run again at any time.
set -euo pipefail

# The plugin is loaded into clang 19 and uses LLVM's libraries and headers; lld links the runtime.
build=(clang-19 llvm-19-dev libclang-19-dev lld-19 g++ make pkg-config ca-certificates)
cpython=(
  python3 dpkg-dev xz-utils                   # the recipe; CPython's source package
  zlib1g-dev libbz2-dev liblzma-dev libffi-dev libssl-dev libsqlite3-dev
  libreadline-dev libncurses-dev uuid-dev libexpat1-dev   # CPython's own modules
)
tests=(
  ccache cmake meson ninja-build              # ame cc under build systems
  python3-dev python3-setuptools              # an extension compiled by setuptools
  gcc-12 libitm1                              # the peer in bench/stm
  csmith libcsmith-dev                        # random C programs for the pass
)

wanted=("${build[@]}" "${cpython[@]}")
case "${1:-}" in
  --tests) wanted+=("${tests[@]}") ;;
  '') ;;
  *) echo "usage: ci/setup.sh [--tests]" >&2; exit 2 ;;
esac

say() { echo "setup: $*"; }

fail() {
  echo "setup: $*" >&2
  exit 1
}

run_as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo > /dev/null; then
    sudo "$@"
  else
    fail "needs root to install packages: run as root, or install sudo. The command is: $*"
  fi
}

install() {
  local log
  log=$(mktemp)
  say "installing $*"
  if ! { run_as_root apt-get update -qq &&
         run_as_root env DEBIAN_FRONTEND=noninteractive \
           apt-get install -y -qq --no-install-recommends "$@"; } > "$log" 2>&1; then
    tail -n 30 "$log" >&2
    fail "apt-get install $* failed; Ame supports Debian 12 (this is $(. /etc/os-release && echo "$PRETTY_NAME"))"
  fi
  rm -f "$log"
}

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2> /dev/null)" = installed ]; }

command -v apt-get > /dev/null || fail "apt-get not found; Ame supports Debian 12"
missing=()
for package in "${wanted[@]}"; do
  installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then install "${missing[@]}"; fi

# Rust: any toolchain from the version in Cargo.toml on. Debian 12's own `rustc` is older; its
# security suite carries a current one for browsers under the name rustc-web.
needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
new_enough() {
  local have
  have=$(cargo --version 2> /dev/null | cut -d' ' -f2) || return 1
  [ -n "$have" ] && [ "$(printf '%s\n' "$needed" "$have" | sort -V | head -n 1)" = "$needed" ]
}
if ! new_enough; then
  if command -v rustup > /dev/null || installed rustup; then
    fail "cargo is older than $needed: run 'rustup update stable'"
  fi
  install cargo-web rustc-web
  hash -r
  new_enough || fail "cargo $needed or later is needed, and $(command -v cargo) is $(cargo --version): put a newer one first in PATH"
fi
