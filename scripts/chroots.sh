#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Makes the Debian systems whose interpreters the tests trace, under .chroots/
# of this repository: trixie (python3.13) and sid (python3.14, python3.15); and
# trixie-build, a second trixie in which scripts/build-trixie.sh builds.
#
#     scripts/chroots.sh [trixie|sid|trixie-build]...      default: trixie sid
#
# A chroot is built as NAME.part and renamed when its interpreters run, so NAME
# is complete or absent; .complete in it marks the check as done, and makes the
# next run a no-op. Nothing stays mounted and nothing outside .chroots changes.
# LEAKSNOOP_CHROOTS names another directory, DEBIAN_MIRROR another mirror.
set -eu

PATH=$PATH:/usr/sbin:/sbin
export PATH
here=$(cd "$(dirname "$0")" && pwd)
root=${LEAKSNOOP_CHROOTS:-$(dirname "$here")/.chroots}

fail() {
	echo "chroots: $1" >&2
	[ -z "${2-}" ] || echo "hint: $2" >&2
	exit 1
}

pythons_of() {
	case $1 in
	trixie | trixie-build) echo "3.13" ;;
	sid) echo "3.14 3.15" ;;
	*) fail "no such system: $1" "known: trixie sid trixie-build" ;;
	esac
}

# The mirror this machine's apt takes Debian from; nothing where it says none, and debootstrap chooses.
mirror() {
	if [ -n "${DEBIAN_MIRROR-}" ]; then
		echo "$DEBIAN_MIRROR"
		return
	fi
	# shellcheck disable=SC2016 # apt's own variables
	apt-get indextargets --format '$(SITE) $(LABEL)' 'Created-By: Packages' 2>/dev/null |
		awk '$2 == "Debian" || ($2 == "" && $1 ~ /\/debian\/?$/) { print $1; exit }'
}

# debootstrap and the apt inside must go the way the apt outside goes.
use_proxy_of_apt() {
	proxy=$(apt-config dump --format '%v' Acquire::http::Proxy 2>/dev/null || true)
	[ -z "$proxy" ] || { http_proxy=$proxy; export http_proxy; }
}

# Does every interpreter of chroot directory $1, system $2, run and find its library?
works() {
	for version in $(pythons_of "$2"); do
		[ -x "$1/usr/bin/python$version" ] || return 1
		chroot "$1" "/usr/bin/python$version" -c 'import asyncio, ctypes, hashlib, json, tracemalloc' 2>/dev/null || return 1
	done
}

in_chroot() {
	directory=$1
	shift
	env DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$directory" "$@"
}

# Debian's sid is a moving target: its packages may be newer than its signature's time, or than debootstrap knows of.
add_pythons() {
	packages=
	for version in $(pythons_of "$2"); do
		[ -x "$1/usr/bin/python$version" ] || packages="$packages python$version"
	done
	[ -n "$packages" ] || return 0
	in_chroot "$1" apt-get -o Acquire::Check-Valid-Until=false update -qq
	# shellcheck disable=SC2086
	in_chroot "$1" apt-get -o Acquire::Check-Valid-Until=false install -y -qq --no-install-recommends $packages
}

build() {
	part=$root/$1.part
	rm -rf --one-file-system "$part"
	mkdir -p "$root"
	suite=${1%-build}
	include=
	[ "$suite" != trixie ] || include=--include=python3.13
	# shellcheck disable=SC2086
	debootstrap --variant=minbase $include "$suite" "$part" $(mirror)
	add_pythons "$part" "$1"
	rm -rf "$part/var/cache/apt/archives/"*.deb "$part/var/lib/apt/lists/"*
}

# Half-built ones are thrown away by the next run; a log tells what went wrong.
make_one() {
	done_dir=$root/$1
	[ ! -e "$done_dir/.complete" ] || return 0
	if [ -d "$done_dir" ] && works "$done_dir" "$1"; then
		: >"$done_dir/.complete"
		return 0
	fi
	[ ! -e "$done_dir" ] || fail "$done_dir is there but its interpreters do not run" "remove it: rm -rf --one-file-system $done_dir"
	command -v debootstrap >/dev/null || fail "debootstrap is not installed" "scripts/deps.sh test"
	echo "chroots: making $1 (about 30 s)" >&2
	mkdir -p "$root"
	build "$1" >"$root/$1.log" 2>&1 || fail "$1 cannot be made" "see $root/$1.log; network and mirror are the usual causes"
	works "$root/$1.part" "$1" || fail "the interpreters of $1 do not run" "see $root/$1.log"
	: >"$root/$1.part/.complete"
	mv -T "$root/$1.part" "$done_dir"
	rm -f "$root/$1.log"
}

[ $# -gt 0 ] || set -- trixie sid
missing=
for name; do
	pythons_of "$name" >/dev/null
	[ -e "$root/$name/.complete" ] || missing="$missing $name"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || fail "making a chroot needs root" "run it as root"
	exec sudo env "LEAKSNOOP_CHROOTS=$root" ${DEBIAN_MIRROR:+"DEBIAN_MIRROR=$DEBIAN_MIRROR"} "$0" $missing
fi

# One builder at a time: two would share a .part directory.
mkdir -p "$root"
exec 9>"$root/.lock"
flock 9
use_proxy_of_apt
for name in $missing; do
	make_one "$name"
done
