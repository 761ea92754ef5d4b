#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs every test: include rules, unit tests, tests of the BPF side, end to end. Needs root and a kernel with BPF: without
# them the tests that need them fail under CI and are skipped, by name, elsewhere. Ends with one line "N passed, N failed".
# LEAKSNOOP_FULL=1 repeats the fault tests 100 times and runs every interpreter everywhere.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 1

if [ "$(id -u)" -ne 0 ]; then
	exec sudo --preserve-env=CI,LEAKSNOOP_FULL,LEAKSNOOP_FAULTS "$0" "$@"
fi

passed=0
failed=0
broken=()
log=build/test.log
: >"$log"

say() { printf '%s\n' "$*" | tee -a "$log"; }

# What matters of a unit test's output.
said_by() { grep -v '^\[ *\(RUN\|OK\)' "$1" | tail -40; }

# One unit test program: cmocka prints "[  PASSED  ] N test(s)." and "[  FAILED  ] N test(s), ...".
run_unit() {
	local out=build/unit/$(basename "$1").out good bad status
	timeout 600 "$1" >"$out" 2>&1
	status=$?
	cat "$out" >>"$log"
	good=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$out" | tail -1)
	bad=$(sed -n 's/^\[  FAILED  \] \([0-9]*\) test.*/\1/p' "$out" | head -1)
	passed=$((passed + ${good:-0}))
	failed=$((failed + ${bad:-0}))
	if [ "$status" -ne 0 ] && [ "${bad:-0}" -eq 0 ]; then
		failed=$((failed + 1))
		bad=1
	fi
	if [ "$status" -ne 0 ]; then
		broken+=("$out")
		say "FAIL $1 (status $status):"
		said_by "$out"
	else
		say "ok   $1: ${good:-0} tests"
	fi
}

# The end-to-end tests, by pytest; its last line has the counts.
run_pytest() {
	local out=build/e2e.out n
	/usr/bin/python3 -m pytest -q -p no:cacheprovider --durations=15 "$@" tests/e2e 2>&1 | tee "$out"
	cat "$out" >>"$log"
	n=$(tail -1 "$out" | sed -n 's/.*\b\([0-9]\+\) passed.*/\1/p')
	passed=$((passed + ${n:-0}))
	n=$(tail -1 "$out" | sed -n 's/.*\b\([0-9]\+\) failed.*/\1/p')
	failed=$((failed + ${n:-0}))
	n=$(tail -1 "$out" | sed -n 's/.*\b\([0-9]\+\) error.*/\1/p')
	failed=$((failed + ${n:-0}))
	if ! tail -1 "$out" | grep -q passed; then
		failed=$((failed + 1))
	fi
}

if scripts/check-includes.py; then
	passed=$((passed + 1))
else
	failed=$((failed + 1))
fi

scripts/chroots.sh || failed=$((failed + 1))
LEAKSNOOP_PYTHONS=$(scripts/pythons.sh | tr '\n' ' ')
LEAKSNOOP_OLD_PYTHONS=$(scripts/pythons.sh unsupported | tr '\n' ' ')
export LEAKSNOOP_PYTHONS LEAKSNOOP_OLD_PYTHONS
say "interpreters: $LEAKSNOOP_PYTHONS"

for test in build/unit/test_*; do
	case $test in *.o | *.d | *.out) continue ;; esac
	run_unit "$test"
done
run_pytest "$@"

# Debian 13: the whole build, its unit tests and an attach in a chroot of it. Only in CI and full runs: it takes a minute.
if [ -n "${CI-}${LEAKSNOOP_FULL-}" ]; then
	if scripts/build-trixie.sh 2>&1 | tee -a "$log"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
	fi
fi

# Once more, where who reads the end only finds it: pytest's and Debian 13's failures are just above.
for out in "${broken[@]}"; do
	printf 'FAIL %s:\n' "$(basename "$out" .out)"
	said_by "$out"
done
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
