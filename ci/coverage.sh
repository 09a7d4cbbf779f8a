#!/usr/bin/env bash
# Which lines of the library the tests never reach: a table by file, then every such line. Doctests, the models and the
# file systems are not among what is counted, nor what a process did that was killed.
set -euo pipefail
cd "$(dirname "$0")/.."
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target}")/coverage
export CARGO_TARGET_DIR MAPWAL_IMAGES=${MAPWAL_IMAGES:-20000}
command -v cargo-llvm-cov >/dev/null || cargo install --quiet --locked cargo-llvm-cov
rustup component list --installed | grep -q '^llvm-tools' || rustup component add llvm-tools
eval "$(cargo llvm-cov show-env --sh)"
cargo llvm-cov clean --workspace
cargo build --locked --quiet --release --examples # which tests run
cargo test --locked --quiet --release --lib --bins --tests >"$CARGO_TARGET_DIR/output" 2>&1 || {
  tail -40 "$CARGO_TARGET_DIR/output"
  exit 1
}
cargo llvm-cov report --release --ignore-filename-regex tests
cargo llvm-cov report --release --ignore-filename-regex tests --lcov --output-path "$CARGO_TARGET_DIR/lcov"
echo 'never reached:'
awk -F'[:,]' '
  $1 == "SF" { n = split($2, path, "/src/"); file = "src/" path[n] }
  $1 == "DA" && $3 == 0 { print "  " file ":" $2 }' "$CARGO_TARGET_DIR/lcov"
