#!/usr/bin/env bash
# Which lines of the library the tests never reach: prints a table by file, and fails if one of those lines is not in
# ci/unreached.txt, which says why each is not reached, or if one there is reached. Doctests, the models, the file systems
# and other processes that are killed are not among what is counted.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/coverage
mkdir -p "$target"
command -v cargo-llvm-cov >/dev/null || cargo install --quiet --locked cargo-llvm-cov
rustup component list --installed | grep -q '^llvm-tools' || rustup component add llvm-tools
export CARGO_TARGET_DIR=$target MAPWAL_IMAGES=${MAPWAL_IMAGES:-20000}
cargo llvm-cov --locked --quiet --release --no-report --lib --bins --examples --tests >/dev/null
cargo llvm-cov report --release --ignore-filename-regex tests
cargo llvm-cov report --release --ignore-filename-regex tests --lcov --output-path "$target/lcov"

# each as "src/file.rs: its text", since numbers change with every line above
awk -F'[:,]' '
  $1 == "SF" { n = split($2, path, "/src/"); file = "src/" path[n] }
  $1 == "DA" && $3 == 0 { print file, $2 }' "$target/lcov" |
  while read -r file number; do
    text=$(sed -n "${number}p" "$file")
    printf '%s: %s\n' "$file" "${text#"${text%%[![:space:]]*}"}"
  done | sort >"$target/unreached"
sed '/^#/d; /^$/d' ci/unreached.txt | sort >"$target/known"
diff "$target/known" "$target/unreached" || {
  echo 'above: < known and reached by now, > never reached and not known'
  exit 1
}
printf '%s lines are never reached, all of them known\n' "$(wc -l <"$target/unreached")"
