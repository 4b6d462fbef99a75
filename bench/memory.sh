#!/usr/bin/env bash
# Measures the memory of cairn where it could grow with what is backed up, and
# prints a Markdown table:
#
#   bench/memory.sh [CAIRN]
#
# - flat: a directory with 1,000,000 files;
# - many: 2,000,000 files in 2,000 directories;
# - stream: 20 GB from the standard input that can't be compressed.
#
# Memory is the greatest anonymous memory (RssAnon) of the process, read every
# 20 ms: pages of mapped files are the kernel's to take back. Some 45 GB of TMPDIR
# are used by stream and 17 GB by many. WORKLOADS="flat many" runs some of them,
# SCALE=100 divides all sizes by 100, to try the script.
set -euo pipefail
cairn=$(realpath "${1:-bin/cairn}")
scale=${SCALE:-1}
work=$(mktemp -d "${TMPDIR:-/tmp}/cairn-memory-XXXXXX")
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
export CAIRN_PASSWORD=memory CAIRN_CACHE_DIR=$work/cache CAIRN_REPOSITORY=$work/repo

# measure WORKLOAD WHAT COMMAND... runs a command and prints a line of the table.
measure() {
	local workload=$1 what=$2 key value peak=0 pid start=$SECONDS
	shift 2
	"$@" <&0 >log 2>&1 &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		while read -r key value _; do
			[[ $key != RssAnon: ]] || ((value <= peak)) || peak=$value
		done 2>/dev/null <"/proc/$pid/status" || true
		sleep 0.02
	done
	wait "$pid" || { echo "$workload, $what: status $?" >&2; tail -n 5 log >&2; exit 1; }
	echo "| $workload | $what | $((peak / 1024)) MiB | $((SECONDS - start)) s |"
}

# lines FIRST LAST makes a file of each number, in the current directory.
lines() { seq "$1" "$2" | split -l 1 -d -a 7 - file-; }

# tree WORKLOAD measures what is done with the tree "source".
tree() {
	"$cairn" init -q
	measure "$1" "first snapshot" "$cairn" snapshot -q source
	measure "$1" "unchanged" "$cairn" snapshot -q source
	measure "$1" "restore" "$cairn" restore -q "latest:$work/source" --target target
	measure "$1" "restore over it, --delete --verify" "$cairn" restore -q --yes "latest:$work/source" --target target --delete --verify
	rm -rf target
	measure "$1" "restore --tar" "$cairn" restore -q "latest:$work/source" --tar archive.tar
	measure "$1" "snapshot tar:" "$cairn" snapshot -q tar:archive.tar
	measure "$1" "ls" "$cairn" ls "latest:$work/source" --source "$work/source"
	measure "$1" "check --read-data" "$cairn" check -q --read-data
	rm -rf source archive.tar repo cache
}

flat() {
	mkdir source
	(cd source && lines 1 $((1000000 / scale)))
	tree flat
}

many() {
	local n
	mkdir source
	for ((n = 0; n < 2000 / scale; n++)); do
		mkdir "source/$n"
		(cd "source/$n" && lines $((n * 1000 + 1)) $((n * 1000 + 1000)))
	done
	tree many
}

stream() {
	"$cairn" init -q
	head -c $((20000000000 / scale)) /dev/urandom | measure stream "snapshot -" "$cairn" snapshot -q -
	measure stream "restore" "$cairn" restore -q latest --target target
	rm -rf target
	measure stream "check --read-data" "$cairn" check -q --read-data
	rm -rf repo cache
}

echo '| workload | command | anonymous memory | time |'
echo '|---|---|---:|---:|'
for workload in ${WORKLOADS:-flat many stream}; do
	"$workload"
done
