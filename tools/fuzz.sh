#!/usr/bin/env bash
# Runs every fuzz target of the module, or those whose name matches an argument,
# in turn, each for FUZZTIME (30s): go test itself takes only one at a time. All
# of them run, also if one finds something; the exit status says whether any did.
#
# What is found is kept in two places:
#
# - an input that fails is put by go test into testdata/fuzz of its package, to
#   be committed with the fix: every later go test runs it;
# - inputs that reach new code are kept in FUZZCACHE (.fuzz of the module), from
#   which the next run goes on. With FUZZKEEP=1 some of them go into testdata/fuzz
#   too, at most 4 for each target, of all sizes up to 2 KiB, so that every go test
#   runs them.
#
# FUZZFLAGS are further options of go test, such as -parallel=1.
set -euo pipefail
cd "$(dirname "$0")/.."

time=${FUZZTIME:-30s}
cache=${FUZZCACHE:-$PWD/.fuzz}
readonly keep=4 largest=2048
mkdir -p "$cache"
output=$(mktemp)
trap 'rm -f "$output"' EXIT

# go test now and then fails when the time is up, with nothing found: a worker
# that was in the middle of an input is taken for one that failed.
timed_out() {
	grep -q 'context deadline exceeded' "$output" && ! grep -q 'Failing input written' "$output"
}

# keep_corpus PACKAGE TARGET copies some of what the target found, in place of what was
# kept before: the largest that is small enough, and others evenly below it.
keep_corpus() {
	local from="$cache/$1/$2" to="$1/testdata/fuzz/$2" name
	[ -d "$from" ] || return 0
	mkdir -p "$to"
	find "$to" -name 'kept-*' -delete
	find "$from" -type f -size "-${largest}c" -printf '%s %f\n' | sort -rn |
		awk -v keep="$keep" '{ name[NR] = $2 } END { for (i = 0; i < keep && i < NR; i++) print name[1 + int(i * NR / keep)] }' | sort -u |
		while read -r name; do
			cp "$from/$name" "$to/kept-$name"
		done
	rmdir --ignore-fail-on-non-empty "$to"
}

status=0
while IFS=: read -r file func; do
	func=${func#func }
	package=${file%/*}
	[[ $func =~ ${1:-} ]] || continue
	echo "== $package $func"
	dir="$cache/$package"
	mkdir -p "$dir"
	# To make an input of some kilobytes smaller would take all of the time otherwise.
	if ! go test -run '^$' -fuzz "^$func\$" -fuzztime "$time" -fuzzminimizetime 100x ${FUZZFLAGS:-} \
		"$package" -test.fuzzcachedir "$dir" 2>&1 | tee "$output"; then
		timed_out || status=1
	fi
	[ -z "${FUZZKEEP:-}" ] || keep_corpus "$package" "$func"
done < <(grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort)
exit "$status"
