#!/usr/bin/env bash
# Runs every fuzz target of the module in turn, each for FUZZTIME (30s): go test
# itself takes only one at a time. Ends at the first that finds something; the
# input is then in testdata/fuzz of its package, to be committed with the fix.
set -euo pipefail
cd "$(dirname "$0")/.."

grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort | while IFS=: read -r file func; do
	echo "== ${file%/*} ${func#func }"
	go test -run '^$' -fuzz "^${func#func }\$" -fuzztime "${FUZZTIME:-30s}" "${file%/*}"
done
