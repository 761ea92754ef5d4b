#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Installs what the build (and, with "test", the test suite; with "bench", the
# services of the bench) needs and this machine lacks. Knows Debian 12 and 13;
# a quick no-op when nothing is missing.
# Installs as root, or raises itself through sudo; prints nothing on success.
#
#     scripts/deps.sh [build|test|bench]      default: build
#
# Limits: elsewhere than on Debian and its relatives it only checks that the
# tools exist, and names what to install by hand.
set -eu

PATH=$PATH:/usr/sbin:/sbin # bpftool and debootstrap live there, which is not in every user's PATH
export PATH

BUILD="clang llvm bpftool libbpf-dev libelf-dev libzydis-dev libjansson-dev zlib1g-dev libsqlite3-dev libmicrohttpd-dev libcap-ng-dev libsystemd-dev pkg-config make gcc libc6-dev python3"
TEST="libcmocka-dev python3-pytest python3-numpy libjemalloc2 debootstrap clang-format prometheus curl systemd"
BENCH="wrk gunicorn python3-flask python3-numpy python3-venv"

fail() {
	echo "deps: $1" >&2
	[ -z "${2-}" ] || echo "hint: $2" >&2
	exit 1
}

# The packages of "$@" that dpkg does not know as installed (pkg-config is a virtual package on newer systems).
missing() {
	have=" $(dpkg-query -W -f '${Package}/${db:Status-Status} ' "$@" pkgconf 2>/dev/null || true)"
	for package; do
		case $have in
		*" $package/installed "*) continue ;;
		esac
		case $package/$have in
		pkg-config/*" pkgconf/installed "*) continue ;;
		esac
		printf '%s ' "$package"
	done
}

# libFuzzer and the sanitizers of clang: the package carries clang's major version in its name.
runtime_of_clang() {
	major=$(clang -dumpversion 2>/dev/null | cut -d. -f1)
	[ -n "$major" ] || return 0
	echo "libclang-rt-$major-dev"
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		fail "cannot install: neither root nor sudo here" "as root: apt-get install $packages"
	fi
}

apt_install() {
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1
}

# Installs "$@" together; if that fails one by one, to say which one it is that cannot be had.
install_packages() {
	packages=$*
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	echo "deps: installing $packages" >&2
	apt_install "$@" && return 0
	as_root apt-get update -qq >"$log" 2>&1 || true # stale or absent lists are the usual cause
	apt_install "$@" && return 0
	refused=
	for package; do
		apt_install "$package" || { refused="$refused $package"; tail -n 3 "$log" >&2; }
	done
	[ -z "$refused" ] || fail "apt-get cannot install:$refused" \
		"check network and apt sources, then: apt-get update && apt-get install$refused"
}

check_by_hand() {
	lacking=
	for tool in clang llvm-strip bpftool pkg-config make gcc python3; do
		command -v "$tool" >/dev/null || lacking="$lacking $tool"
	done
	for library in libbpf libelf zydis jansson zlib sqlite3 libmicrohttpd libcap-ng libsystemd; do
		pkg-config --exists "$library" 2>/dev/null || lacking="$lacking $library(headers)"
	done
	[ -z "$lacking" ] || fail "missing:$lacking" "this script installs on Debian only; use the packages of your system"
}

case ${1-build} in
build) wanted=$BUILD ;;
test) wanted="$BUILD $TEST" ;;
bench) wanted=$BENCH ;;
*) echo "usage: $0 [build|test|bench]" >&2; exit 2 ;;
esac

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
	check_by_hand
	exit 0
fi

# shellcheck disable=SC2046,SC2086 # lists of words
install_missing() {
	lacking=$(missing "$@")
	[ -z "$lacking" ] || install_packages $lacking
}

# shellcheck disable=SC2086
install_missing $wanted
if [ "${1-build}" = test ]; then
	# shellcheck disable=SC2046
	install_missing $(runtime_of_clang)
fi
[ "${1-build}" = bench ] || command -v bpftool >/dev/null ||
	fail "bpftool is installed but not found in PATH" "look for it with: dpkg -L bpftool"
