#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# make bench: costs, as ratios within one run. BENCH chooses what is measured (words: exact services heap watch budget; default all
# but the last), BENCH_QUICK=1 measures all but exact with fewer rounds, BENCH_PYTHONS chooses the interpreters of
# "exact" (words of scripts/pythons.sh), BENCH_PYTHON that of the others.
set -eu
cd "$(dirname "$0")/../.."

if [ "$(id -u)" -ne 0 ]; then
	exec sudo --preserve-env=BENCH,BENCH_QUICK,BENCH_PYTHON,BENCH_PYTHONS,LEAKSNOOP "$0" "$@"
fi

exact() {
	scripts/chroots.sh
	# shellcheck disable=SC2086,SC2046 # words
	python3 tests/bench/exact.py ${BENCH_PYTHONS:-$(scripts/pythons.sh | grep -E '^(plain-3.12|debian-3.11|debian-3.14)=')}
}

services() {
	scripts/deps.sh bench || echo "bench: not everything could be installed; what cannot run is named below" >&2
	python3 tests/bench/services.py ${BENCH_QUICK:+--quick} ${BENCH_PYTHON:+--python "$BENCH_PYTHON"}
}

budget() {
	python3 tests/bench/budget.py ${BENCH_QUICK:+--quick} ${BENCH_PYTHON:+--python "$BENCH_PYTHON"}
}

heap() {
	python3 tests/bench/heap.py ${BENCH_QUICK:+--quick} ${BENCH_PYTHON:+--python "$BENCH_PYTHON"}
}

watch() {
	python3 tests/bench/watch.py ${BENCH_QUICK:+--minutes 4}
}

for part in ${BENCH:-exact services heap watch}; do
	case $part in
	exact | services | heap | watch | budget) "$part" ;;
	*) echo "bench: no part \"$part\"; there are: exact services heap watch budget" >&2; exit 2 ;;
	esac
done
