#!/usr/bin/env bash
# Runs the tests under the address sanitizer (which looks for leaks, too), and those with threads under the thread
# sanitizer. That needs a standard library built for it: from the sources of another toolchain. Says "skipped" where it
# cannot be had.
#
# The thread sanitizer sees addresses, and two mappings of one file have two: what crosses threads does so in one.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(uname -sm)" = 'Linux x86_64' ] || {
  echo 'skipped: this is no x86_64 Linux'
  exit 0
}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/sanitizers
tools=$target/rust
triple=x86_64-unknown-linux-gnu
export RUSTC_BOOTSTRAP=1 # `-Z` on a stable toolchain

echo 'address:'
# what is handed to a child lives in the parent: `kill` and `process` are about processes
(
  export RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=$target/address MAPWAL_IMAGES=5000
  cargo build --locked --quiet --release --examples --target $triple # which tests run
  cargo test --locked --quiet --release --lib --tests --target $triple
)

ci/debian-rust.sh "$tools" newest sources || {
  echo 'skipped: no thread sanitizer without a standard library for it'
  exit 0
}
echo 'thread:'
RUSTC=$tools/rustc RUSTDOC=$tools/rustdoc RUSTFLAGS=-Zsanitizer=thread CARGO_TARGET_DIR=$target/thread \
  MAPWAL_IMAGES=3000 TSAN_OPTIONS=halt_on_error=1 \
  cargo test --locked --quiet --release --lib --test crash --test scenarios --test writing --test reading --test following \
  --test truncation --test space -Zbuild-std --target $triple
