#!/usr/bin/env bash
# Which lines of the library the tests never reach: prints a table by file, and fails if one of those lines is not in
# ci/unreached.txt, which says why each is not reached, or if one there is reached. Doctests, the models and the file
# systems are not among what is counted, nor what a process did that was killed.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/coverage MAPWAL_IMAGES=${MAPWAL_IMAGES:-20000}
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

# each as "src/file.rs: its text", since numbers change with every line above
awk -F'[:,]' '
  $1 == "SF" { n = split($2, path, "/src/"); file = "src/" path[n] }
  $1 == "DA" && $3 == 0 { print file, $2 }' "$CARGO_TARGET_DIR/lcov" |
  while read -r file number; do
    text=$(sed -n "${number}p" "$file")
    printf '%s: %s\n' "$file" "${text#"${text%%[![:space:]]*}"}"
  done | sort >"$CARGO_TARGET_DIR/unreached"
sed '/^#/d; /^$/d' ci/unreached.txt | sort >"$CARGO_TARGET_DIR/known"
diff "$CARGO_TARGET_DIR/known" "$CARGO_TARGET_DIR/unreached" || {
  echo 'above: < known and reached by now, > never reached and not known'
  exit 1
}
printf '%s lines are never reached, all of them known\n' "$(wc -l <"$CARGO_TARGET_DIR/unreached")"
