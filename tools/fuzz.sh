#!/usr/bin/env bash
# Runs every fuzz target of the module in turn, each for FUZZTIME (30s): go test
# itself takes only one at a time. Ends at the first that finds something; the
# input is then in testdata/fuzz of its package, to be committed with the fix.
set -euo pipefail
cd "$(dirname "$0")/.."

output=$(mktemp)
trap 'rm -f "$output"' EXIT

# go test now and then fails when the time is up, with nothing found: a worker
# that was in the middle of an input is taken for one that failed.
timed_out() {
	grep -q 'context deadline exceeded' "$output" && ! grep -q 'Failing input written' "$output"
}

while IFS=: read -r file func; do
	func=${func#func }
	echo "== ${file%/*} $func"
	go test -run '^$' -fuzz "^$func\$" -fuzztime "${FUZZTIME:-30s}" "${file%/*}" 2>&1 | tee "$output" || timed_out
done < <(grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort)
