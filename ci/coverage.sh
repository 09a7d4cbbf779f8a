#!/usr/bin/env bash
# Which lines of the library the tests never reach: a table by file, then those of them that docs/coverage.md does not
# explain; fails if there are any, or if it explains one that is not there. Doctests, the models and the file systems are
# not among what is counted, nor what a process did that was killed.
set -euo pipefail
cd "$(dirname "$0")/.."
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target}")/coverage
# FILE: TEXT of each line that is explained
explained() { sed -n 's/^    //p' docs/coverage.md; }
while read -r file text; do
  grep -Fq -- "$text" "${file%:}" || {
    echo "docs/coverage.md explains a line that is not there: $file $text"
    exit 1
  }
done < <(explained)
export RUST_BACKTRACE=0 # what failed is within the last lines
export MAPWAL_THREADS=1 # of the test of faults: more would count in the same places, and be slower for it
export CARGO_TARGET_DIR MAPWAL_IMAGES=${MAPWAL_IMAGES:-20000}
command -v cargo-llvm-cov >/dev/null || cargo install --quiet --locked cargo-llvm-cov
rustup component list --installed | grep -q '^llvm-tools' || rustup component add llvm-tools
eval "$(cargo llvm-cov show-env --sh)"
cargo llvm-cov clean --workspace
cargo build --locked --quiet --release --examples # which tests run
# TESTS...: runs them, and shows what failed
run() {
  cargo test --locked --quiet --release "$@" >"$CARGO_TARGET_DIR/output" 2>&1 || {
    tail -40 "$CARGO_TARGET_DIR/output"
    exit 1
  }
}
run --lib --bins --tests
for _ in 1 2 3; do # threads meet otherwise each time
  run --test writing --test reading --test following --test truncation --test watch
done
cargo llvm-cov report --release --ignore-filename-regex tests
cargo llvm-cov report --release --ignore-filename-regex tests --lcov --output-path "$CARGO_TARGET_DIR/lcov"

# FILE: TEXT of each line that was never reached
awk -F'[:,]' '
  $1 == "SF" { n = split($2, path, "/src/"); file = "src/" path[n]; line = 0; split("", text) }
  $1 == "SF" { while ((getline text[++line] < file) > 0) sub(/^ +/, "", text[line]); close(file) }
  $1 == "DA" && $3 == 0 { print file ": " text[$2] }' "$CARGO_TARGET_DIR/lcov" | sort -u >"$CARGO_TARGET_DIR/unreached"
echo "never reached: $(wc -l <"$CARGO_TARGET_DIR/unreached") different lines; not explained in docs/coverage.md:"
! grep -Fvxf <(explained) "$CARGO_TARGET_DIR/unreached"
