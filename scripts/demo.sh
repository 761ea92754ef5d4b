#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Starts a leaking service of this repository, attaches to it and prints the finding.
# DEMO_PYTHON chooses the interpreter, DEMO_SECONDS how long to look.
set -eu
cd "$(dirname "$0")/.."

as_root() {
	if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

python=${DEMO_PYTHON:-/usr/bin/python3}
command -v "$python" >/dev/null || python=python3
out=$(mktemp)
"$python" tests/targets/leaky_service.py >"$out" &
service=$!
trap 'kill "$service" 2>/dev/null || true; rm -f "$out"' EXIT

for _ in $(seq 100); do
	grep -q ready "$out" && break
	kill -0 "$service" 2>/dev/null || { echo "demo: the service did not start" >&2; exit 1; }
	sleep 0.1
done

echo "\$ sudo leaksnoop attach $service --duration ${DEMO_SECONDS:-10}"
as_root build/leaksnoop attach "$service" --duration "${DEMO_SECONDS:-10}"
