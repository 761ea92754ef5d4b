#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Prints the interpreters at hand, one a line, oldest first in each group:
#
#     plain-3.8=/home/me/.pyenv/versions/3.8.18/bin/python3.8
#     debian-3.11=/usr/bin/python3.11
#     debian-3.14=chroot,/path/of/repo/.chroots/sid,/usr/bin/python3.14
#
# plain: built by pyenv; debian: the system's own, or one in .chroots. The
# command's words are joined by commas. With "unsupported" it prints those
# which the tracer must refuse (2.7, 3.6, 3.7). None at hand prints nothing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
chroots=${LEAKSNOOP_CHROOTS:-$(dirname "$here")/.chroots}

case ${1-supported} in
supported) versions="3.8 3.9 3.10 3.11 3.12 3.13 3.14 3.15" ;;
unsupported) versions="2.7 3.6 3.7" ;;
*) echo "usage: $0 [supported|unsupported]" >&2; exit 2 ;;
esac

pyenv_root() {
	if [ -n "${PYENV_ROOT-}" ]; then
		echo "$PYENV_ROOT"
	elif command -v pyenv >/dev/null 2>&1; then
		pyenv root
	else
		echo "${HOME:-/root}/.pyenv"
	fi
}

# The newest patch release of each version that pyenv holds.
plain() {
	versions_dir=$(pyenv_root)/versions
	for version in $versions; do
		newest=$(ls -d "$versions_dir/$version".*/bin/"python$version" 2>/dev/null | sort -V | tail -n 1)
		[ -z "$newest" ] || [ ! -x "$newest" ] || echo "plain-$version=$newest"
	done
}

debian() {
	[ -e /etc/debian_version ] || return 0
	for version in $versions; do
		if [ -x "/usr/bin/python$version" ]; then
			echo "debian-$version=/usr/bin/python$version"
			continue
		fi
		for name in trixie sid; do
			if [ -e "$chroots/$name/.complete" ] && [ -x "$chroots/$name/usr/bin/python$version" ]; then
				echo "debian-$version=chroot,$chroots/$name,/usr/bin/python$version"
				break
			fi
		done
	done
}

plain
debian
