#!/usr/bin/env bash
# Installs what the tests (or, with --bench, the benchmarks too) need beyond
# Go, from Debian's packages.
#
#   tools/install-test-deps.sh [--bench]
#
# Nothing happens where all of it is there already. Where something is missing
# and can't be installed (no root, no network, no apt), it says so and ends with
# 0, as the tests concerned then skip loudly; with CI=true it ends with 1, as a
# test that is skipped in CI is a test that nobody runs.
set -euo pipefail

# Each line: a command, and the package that has it.
needs='
git      git
gcc      gcc
getfattr attr
setfacl  acl
rsync    rsync
restic   restic
mkfs.xfs xfsprogs
mkfs.ext4 e2fsprogs
setcap   libcap2-bin
bsdtar   libarchive-tools
zstd     zstd
spin     spin
'
PATH+=:/usr/sbin:/sbin # an ordinary user has mkfs there too
[[ "${1:-}" != --bench ]] || needs+='
borg     borgbackup
'

packages=()
while read -r command package; do
	[[ -z "$command" ]] || command -v "$command" >/dev/null || packages+=("$package")
done <<<"$needs"

# The race detector needs cgo, and cgo needs a C compiler with its headers.
[[ -e /usr/include/stdlib.h ]] || packages+=(libc6-dev)

# Servers are not in PATH, as several versions may be installed.
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null ||
	packages+=(postgresql postgresql-contrib)
[[ ${#packages[@]} -gt 0 ]] || exit 0

give_up() {
	echo "$0: MISSING: ${packages[*]} ($1); some tests will be SKIPPED" >&2
	[[ "${CI:-}" != true ]] || exit 1
	exit 0
}

command -v apt-get >/dev/null || give_up 'no apt-get here: install them by other means'
root=()
if [[ $(id -u) != 0 ]]; then
	sudo -n true 2>/dev/null || give_up "no root here: run apt-get install ${packages[*]}"
	root=(sudo -n)
fi

echo "$0: installing ${packages[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
install() {
	"${root[@]}" apt-get -qq -o DPkg::Lock::Timeout=120 install --no-install-recommends "${packages[@]}" >/dev/null
}
# The lists of packages may be missing or old: then once more with new ones.
install 2>/dev/null || { "${root[@]}" apt-get -qq update && install; } || give_up 'apt-get could not install them'
