#!/usr/bin/env bash
# Builds the library with the oldest Rust that Cargo.toml promises, unpacked from Debian's packages beside the
# toolchain in use. Says "skipped" where that cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/msrv
tools=$(realpath -m "$CARGO_TARGET_DIR/rust-$version")

skip() {
  echo "skipped: $1, so nothing was built with Rust $version"
  exit 0
}

# The wrapper is the last thing made: without it, all is fetched again.
fetch() {
  command -v apt-get dpkg-deb >/dev/null || skip 'this is no Debian'
  apt-get -qq update || skip 'the package lists cannot be fetched'
  local dev std llvm
  dev=$(apt-cache madison rustc-web | awk -v v="$version." 'index($3, v) == 1 {print $3; exit}')
  [ -n "$dev" ] || skip "there is no package of Rust $version"
  std=libstd-rust-web-$version
  llvm=$(apt-cache depends "$std=$dev" | awk '$2 ~ /^libllvm/ {print $2; exit}')
  rm -rf "$tools"
  mkdir -p "$tools/packages"
  (cd "$tools/packages" && apt-get -qq -o APT::Sandbox::User=root download "rustc-web=$dev" "libstd-rust-web-dev=$dev" "$std=$dev" "$llvm") ||
    skip "the packages of Rust $version cannot be fetched"
  for package in "$tools"/packages/*.deb; do dpkg-deb -x "$package" "$tools"; done
  rm -r "$tools/packages"
  printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' \
    "$tools/usr/lib/$(uname -m)-linux-gnu" "$tools/usr/bin/rustc" >"$tools/rustc"
  chmod +x "$tools/rustc"
}

[ -x "$tools/rustc" ] || fetch
"$tools/rustc" --version
RUSTC=$tools/rustc cargo check --locked --lib
