#!/usr/bin/env bash
# Counts the instructions of the log's hot roads under callgrind, and fails where one takes more than 3 % more
# than benches/instructions/baseline.txt says. `--write` writes that anew.
#
# The count is of one function in one thread, so neither the machine's load nor the background thread changes it.
# Valgrind shows every program the same AVX2 processor, so libc and std choose the same code on all that have AVX2.
# What does change it is another compiler, another libc or another valgrind: then the table is shown, and not judged.
set -euo pipefail
cd "$(dirname "$0")/../benches/instructions"
baseline=baseline.txt
tolerance=3 # percent

skip() {
  echo "skipped: $1, so no instructions were counted"
  exit 0
}

[ "$(uname -sm)" = 'Linux x86_64' ] || skip 'this is no x86_64 Linux'
grep -qw avx2 /proc/cpuinfo || skip 'the processor has no AVX2'
if ! command -v valgrind >/dev/null; then
  command -v apt-get >/dev/null || skip 'there is no valgrind, and this is no Debian'
  [ "$(id -u)" = 0 ] || skip 'there is no valgrind, and only root can install it'
  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends valgrind; } \
    >/dev/null 2>&1 || skip 'valgrind cannot be fetched'
fi

target=${CARGO_TARGET_DIR:-../../target}
CARGO_TARGET_DIR=$(realpath -m "$target/instructions")
export CARGO_TARGET_DIR
cargo build --locked --quiet --release
program=$CARGO_TARGET_DIR/release/instructions
tools="$(rustc --version | cut -d' ' -f1,2), $(valgrind --version), $(getconf GNU_LIBC_VERSION)"

# Instructions that one walk of the road takes, to a tenth.
count() {
  local out=$CARGO_TARGET_DIR/callgrind.out times
  times=$(valgrind -q --tool=callgrind --toggle-collect='instructions::measured*' --callgrind-out-file="$out" "$program" "$1")
  awk -v times="$times" '/^summary:/ { total = $2 } END { if (total < times) exit 1; printf "%.1f\n", total / times }' "$out" || {
    echo "callgrind counted nothing on the road $1" >&2
    return 1
  }
}

now=$CARGO_TARGET_DIR/now.txt
echo "# $tools" >"$now"
for road in $("$program"); do
  instructions=$(count "$road")
  echo "$road $instructions" >>"$now"
done

if [ "${1:-}" = --write ]; then
  cp "$now" "$baseline"
  cat "$baseline"
  exit 0
fi

same_tools=$([ "$(head -1 "$baseline")" = "$(head -1 "$now")" ] && echo yes || echo no)
awk -v tolerance=$tolerance -v judged="$same_tools" '
  FNR == 1 { next } # the tools
  NR == FNR { was[$1] = $2; next }
  !title++ { printf "%-24s %10s %10s %8s\n", "instructions per walk", "now", "baseline", "change" }
  !($1 in was) { printf "%-24s %10.1f %10s\n", $1, $2, "none"; unknown++; next }
  {
    change = 100 * ($2 / was[$1] - 1)
    more = change > tolerance; less = change < -tolerance
    printf "%-24s %10.1f %10.1f %+7.1f%%%s\n", $1, $2, was[$1], change, more ? "  more" : less ? "  less" : ""
    grown += more; shrunk += less
    delete was[$1]
  }
  END {
    for (road in was) { print road " is in the baseline, and is no road"; unknown++ }
    if (judged == "no") { print "not judged: the baseline was made with other tools"; exit 0 }
    if (shrunk) print shrunk " below the baseline: write it anew with ci/instructions.sh --write"
    if (grown) print grown " more than " tolerance " % above the baseline"
    if (unknown) print "the baseline is not of these roads: write it anew with ci/instructions.sh --write"
    exit grown || unknown ? 1 : 0
  }' "$baseline" "$now"
if [ "$same_tools" = no ]; then
  echo "  then: $(head -1 "$baseline" | cut -c3-)"
  echo "  now:  $tools"
fi
