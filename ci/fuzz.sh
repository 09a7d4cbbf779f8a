#!/usr/bin/env bash
# Fuzzes each target for some seconds: `ci/fuzz.sh [SECONDS]`, 60 by default. Begins with the corpus that is committed,
# of which it works on a copy. Fails on any finding, and names the input, which
# `RUSTC_BOOTSTRAP=1 cargo fuzz run TARGET INPUT` brings back.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
targets=(segment directory operations)
# Inputs are small, and so are segments here: whoever needs more memory for one, or longer, has lost its bound.
limits=(-max_len=4096 -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=64)

[ "$(uname -sm)" = 'Linux x86_64' ] || {
  echo 'skipped: this is no x86_64 Linux'
  exit 0
}
command -v cargo-fuzz >/dev/null || cargo install --quiet --locked cargo-fuzz
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz
export CARGO_TARGET_DIR=$target
export RUSTC_BOOTSTRAP=1 # `-Z` on a stable toolchain

(
  cd fuzz
  cargo fmt --check
  cargo clippy --locked --quiet --all-targets -- -D warnings
  cargo test --locked --quiet --lib
  cargo fuzz build
)

for name in "${targets[@]}"; do
  work=$target/runs/$name
  rm -rf "$work"
  mkdir -p "$work/corpus" "$work/findings"
  cp fuzz/corpus/"$name"/* "$work/corpus"
  (cd fuzz && cargo fuzz run "$name" "$work/corpus" -- "${limits[@]}" -max_total_time="$seconds" \
    -artifact_prefix="$work/findings/" -print_final_stats=1) >"$work/log" 2>&1 || {
    tail -40 "$work/log"
    echo "$name: a finding: $(find "$work/findings" -type f | head -1)"
    exit 1
  }
  grep 'DONE' "$work/log" | tail -1 | sed "s/^/$name: /"
done
