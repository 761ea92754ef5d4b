#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Proves that the project builds and runs with Debian 13's tools: its gcc,
# clang, bpftool, libbpf and Zydis, in a debootstrap of its own under .chroots.
#
#     scripts/build-trixie.sh [--keep]
#
# Copies the sources (as git sees them, where there is git), installs what is missing with scripts/deps.sh, builds everything
# from scratch with CI=true (warnings are errors), then runs on this machine's
# kernel what came out: version, doctor, the unit tests (with Debian 13's Python
# as their only interpreter), and an attach to that Python. Prints one line a
# step and ends with status 0 only if all of them passed. The first run takes a
# minute or two, later ones less than one; --keep builds only what changed.
#
# /proc, /sys and /dev/pts are mounted in a mount namespace of its own and vanish with
# the last process of the run, however it ends. Needs root (raises itself
# through sudo) and a kernel that has BTF.
set -euo pipefail
cd "$(dirname "$0")/.."

PATH=$PATH:/usr/sbin:/sbin
export PATH
UNIT=(tests/unit/test_*.c tests/bpf/test_*.c)
SECONDS_TRACED=3
chroots=${LEAKSNOOP_CHROOTS:-$PWD/.chroots}
system=$chroots/trixie-build
log=$chroots/trixie-build.log
interpreter=debian-3.13=/usr/bin/python3.13

fail() {
	echo "build-trixie: $1" >&2
	[ -z "${2-}" ] || echo "hint: $2" >&2
	exit 1
}

case ${1-} in
"" | --keep) ;;
*) echo "usage: $0 [--keep]" >&2; exit 2 ;;
esac

if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || fail "entering a chroot needs root" "run it as root"
	exec sudo --preserve-env=LEAKSNOOP_CHROOTS,DEBIAN_MIRROR "$0" "$@"
fi
# Once more inside a mount namespace whose mounts no other sees.
if [ -z "${BUILD_TRIXIE_INSIDE-}" ]; then
	scripts/chroots.sh trixie-build
	BUILD_TRIXIE_INSIDE=1 exec unshare --mount --propagation private "$0" "$@"
fi

# One run at a time: they share a directory.
exec 9>"$chroots/.trixie-build.lock"
flock 9

inside() {
	env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive CI=true LEAKSNOOP_PYTHONS=$interpreter \
		chroot "$system" /bin/sh -c "cd /src && $1"
}

# step NAME COMMAND: COMMAND inside, its output into the log; how long it took, or the end of its output.
step() {
	local started=$SECONDS mark
	mark=$(wc -c <"$log")
	echo "== $1: $2" >>"$log"
	if ! inside "$2" >>"$log" 2>&1; then
		tail -c "+$((mark + 1))" "$log" | tail -n 40 >&2
		fail "$1 failed on Debian 13" "all of the output: $log"
	fi
	printf 'ok   %-28s %3d s\n' "$1" $((SECONDS - started))
}

# The files that are sources, NUL after each: as git sees them, or, without git, all that is not built or hidden.
list_sources() {
	if git -c safe.directory="$PWD" rev-parse --is-inside-work-tree >/dev/null 2>&1; then
		git -c safe.directory="$PWD" ls-files -z --cached --others --exclude-standard
	else
		find . -path './build*' -prune -o -path './.*' ! -name .clang-format -prune -o -name __pycache__ -prune -o -type f -print0
	fi
}

# Times of files stay, so that --keep can build only what changed; what is no source any more goes.
copy_sources() {
	local new=$system/src.new
	rm -rf --one-file-system "$new"
	mkdir "$new"
	list_sources |
		while IFS= read -r -d '' file; do [ ! -f "$file" ] || printf '%s\0' "$file"; done |
		tar --create --null --files-from=- | tar --extract --directory="$new"
	[ -s "$new/Makefile" ] || fail "no sources found here"
	[ "${1-}" != --keep ] || [ ! -d "$system/src/build" ] || mv "$system/src/build" "$new/build"
	rm -rf --one-file-system "$system/src"
	mv -T "$new" "$system/src"
}

versions() {
	inside 'printf "Debian %s, " "$(cat /etc/debian_version)"; gcc --version | head -n 1; clang --version | head -n 1
		dpkg-query -W libbpf-dev libzydis-dev bpftool' >>"$log" 2>&1
}

# The report must name the line that allocates: a run that traces nothing would pass otherwise.
leaking='
import time
kept = []
print("ready", flush=True)
for _ in range(60_000):
    kept.append(bytearray(300))
    time.sleep(0.001)
'
trace_python() {
	printf '%s' "$leaking" >"$system/src/build/leaking.py"
	step "attach, Python 3.13" "
		set -e
		/usr/bin/python3.13 build/leaking.py >build/leaking.out & target=\$!
		trap 'kill \$target' EXIT
		for i in 1 2 3 4 5 6 7 8 9 10; do grep -q ready build/leaking.out && break; sleep 0.2; done
		build/leaksnoop attach \$target --duration $SECONDS_TRACED --format json --output build/report.json
		kill -0 \$target
		cat build/report.json
		python3.13 -c '
import json
report = json.load(open(\"build/report.json\"))
top = report[\"findings\"][0][\"traceback\"][0]
assert top[\"file\"].endswith(\"leaking.py\") and top[\"line\"] == 6, top
assert report[\"coverage\"][\"dropped\"] == 0, report[\"coverage\"]
'"
}

: >"$log"
mount --bind "$system" "$system" # the tests make mount namespaces of their own, which needs / to be a mount
mount --bind /proc "$system/proc"
mount --rbind /sys "$system/sys"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$system/dev/pts"
mount --bind "$system/dev/pts/ptmx" "$system/dev/ptmx"
copy_sources "${1-}"
step "scripts/deps.sh test" "scripts/deps.sh test"
versions
step "make CI=true" "make -j2 CI=true"
step "make CI=true unit" "make -j2 CI=true unit"
step "leaksnoop --version" "build/leaksnoop --version"
step "leaksnoop doctor" "build/leaksnoop doctor"
for source in "${UNIT[@]}"; do
	test=$(basename "$source" .c)
	step "$test" "timeout 100 build/unit/$test"
done
trace_python
grep -m 3 -e '^Debian' -e '^Debian clang' -e '^libbpf' "$log"
echo "all passed in $SECONDS s"
