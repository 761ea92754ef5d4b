#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# make bench: costs, as ratios within one run. BENCH_PYTHONS chooses the interpreters (words of scripts/pythons.sh).
set -eu
cd "$(dirname "$0")/../.."

if [ "$(id -u)" -ne 0 ]; then
	exec sudo --preserve-env=BENCH_PYTHONS "$0" "$@"
fi

scripts/chroots.sh
# shellcheck disable=SC2086,SC2046 # words
python3 tests/bench/exact.py ${BENCH_PYTHONS:-$(scripts/pythons.sh | grep -E '^(plain-3.12|debian-3.11|debian-3.14)=')}
