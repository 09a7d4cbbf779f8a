#!/usr/bin/env bash
# The slow suite, which .ci/run leaves out: sabotage, fuzzing, sanitizers, kills, crash images without end, coverage.
#
#   ci/slow.sh [IMAGES]
#
# A million crash images by default, which take some minutes; a hundred times as many are a soak of hours.
set -euo pipefail
cd "$(dirname "$0")/.."
ci/sabotage.sh
ci/fuzz.sh 600
ci/sanitizers.sh
MAPWAL_KILLS=3000 cargo test --locked --release --test kill
MAPWAL_IMAGES=${1:-1000000} cargo test --locked --release --test crash -- --nocapture
ci/coverage.sh
