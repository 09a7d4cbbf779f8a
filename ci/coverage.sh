#!/usr/bin/env bash
# Which lines of the library the tests never reach: a table by file, then every such line. `ci/coverage.sh --lines`
# prints the lines alone. Doctests and the models are not among what is counted.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v cargo-llvm-cov >/dev/null || cargo install --quiet --locked cargo-llvm-cov
llvm=$(rustc --version --verbose | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
tools=/usr/lib/llvm-$llvm/bin
[ -x "$tools/llvm-cov" ] || apt-get -qq install --no-install-recommends "llvm-$llvm" >/dev/null
export LLVM_COV=$tools/llvm-cov LLVM_PROFDATA=$tools/llvm-profdata MAPWAL_IMAGES=${MAPWAL_IMAGES:-20000}
cargo llvm-cov --locked --quiet --release --no-report --lib --bins --tests >/dev/null
[ "${1:-}" = --lines ] || cargo llvm-cov report --release --ignore-filename-regex 'tests'
echo 'never reached:'
cargo llvm-cov report --release --ignore-filename-regex 'tests' --lcov | awk -F'[:,]' '
  $1 == "SF" { n = split($2, path, "/src/"); file = "src/" path[n] }
  $1 == "DA" && $3 == 0 { print "  " file ":" $2 }'
