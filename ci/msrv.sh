#!/usr/bin/env bash
# Builds the library with the oldest Rust that Cargo.toml promises, unpacked from Debian's packages beside the
# toolchain in use. Says "skipped" where that cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/msrv
tools=$(realpath -m "$CARGO_TARGET_DIR/rust-$version")

ci/debian-rust.sh "$tools" "$version" || {
  echo "skipped: nothing was built with Rust $version"
  exit 0
}
"$tools/rustc" --version
RUSTC=$tools/rustc cargo check --locked --lib
