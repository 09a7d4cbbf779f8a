#!/usr/bin/env bash
# Takes out one line at a time that a promise rests on, and requires that a named test then fails.
#
#   ci/sabotage.sh [NAME...]
#
# The patches are in ci/sabotage: each says what it takes out, and which test must fail. "loom" before a test's name means
# the models. Each test must pass first, with nothing taken out. It works in a copy of the sources, so nothing here changes.
# Some seconds each; not part of .ci/run.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/sabotage
copy=$target/sources
export CARGO_INCREMENTAL=1 # one line at a time
patches=("${@/#/ci/sabotage/}")
if [ $# -gt 0 ]; then patches=("${patches[@]/%/.patch}"); else patches=(ci/sabotage/*.patch); fi

# TEST...: runs it in the copy; the models where it begins with "loom". Nothing here takes long but a hang.
run() {
  if [ "$1" = loom ]; then
    RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=$target/loom timeout 120 \
      cargo test --locked --quiet --release --test loom "${@:2}"
  else
    CARGO_TARGET_DIR=$target/plain timeout 120 cargo test --locked --quiet --release "$@"
  fi
}

# Whether the copy compiles: a patch that does not proves nothing.
compiles() {
  if [ "$1" = loom ]; then
    RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=$target/loom \
      cargo test --locked --quiet --release --test loom --no-run
  else
    local of=("$1") # --lib; or --test and which
    [ "$1" != --test ] || of+=("$2")
    CARGO_TARGET_DIR=$target/plain cargo test --locked --quiet --release "${of[@]}" --no-run
  fi
}

# The sources, with new times, so that what was built of others is built again.
renew() {
  rm -rf "$copy"
  mkdir -p "$copy"
  git ls-files -z | grep -zv '^benches/peers/' | tar --null -T - -c | tar -x -m -C "$copy"
}

# The test that a patch names.
named() { sed -n 's/^Test: //p' "$1"; }

renew
mapfile -t tests < <(for patch in "${patches[@]}"; do named "$patch"; done | sort -u)
for line in "${tests[@]}"; do
  read -r -a test <<<"$line"
  (cd "$copy" && compiles "${test[@]}" && run "${test[@]}") >"$target/output" 2>&1 || {
    echo "$line fails, or does not end, with nothing taken out: see $target/output"
    exit 1
  }
  # a name that no test has is no test
  grep -Eq '^test result: ok\. [1-9]' "$target/output" || {
    echo "$line runs no test"
    exit 1
  }
done
printf '%s tests pass with nothing taken out\n' ${#tests[@]}

survived=()
for patch in "${patches[@]}"; do
  renew
  read -r -a test < <(named "$patch")
  printf '%-20s ' "$(basename "$patch" .patch)"
  (
    cd "$copy"
    patch --quiet --strip 1 --fuzz 0 <"$root/$patch"
    compiles "${test[@]}" >"$target/output" 2>&1
  ) || {
    echo "does not apply, or compile: see $target/output"
    exit 1
  }
  status=0
  (cd "$copy" && run "${test[@]}" >"$target/output" 2>&1) || status=$?
  case $status in
    0)
      echo "SURVIVED ${test[*]}"
      survived+=("$patch")
      ;;
    124) echo "found by its time limit, in ${test[*]}" ;;
    *) echo "found by ${test[*]}" ;;
  esac
done
printf '%s sabotaged, %s not found\n' ${#patches[@]} ${#survived[@]}
[ ${#survived[@]} -eq 0 ]
