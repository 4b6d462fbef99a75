#!/usr/bin/env bash
# Measures the memory of cairn where it could grow with what is backed up, and
# prints a Markdown table:
#
#   bench/memory.sh [CAIRN]
#
# - flat: a directory with 1,000,000 files;
# - many: 2,000,000 files in 2,000 directories;
# - stream: 20 GB from the standard input that can't be compressed;
# - prune: 10,000,000 chunks of some 128 bytes, half of them garbage: some packs are
#   all garbage, some half, and some not at all.
#
# Memory is the greatest anonymous memory (RssAnon) of the process, read every
# 20 ms: pages of mapped files are the kernel's to take back. Some 45 GB of TMPDIR
# are used by stream, 17 GB by many and 12 GB by prune. WORKLOADS="flat many" runs
# some of them, SCALE=100 divides all sizes by 100, to try the script.
set -euo pipefail
cairn=$(realpath "${1:-bin/cairn}")
module=$(realpath "$(dirname "$0")/..")
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

# noise makes what can't be compressed: half a million of the smallest chunks.
noise() { head -c $((64000000 / scale)) /dev/urandom; }

# listed HOST prints the IDs of a host's snapshots, the newest last.
listed() { "$cairn" snapshots --json --host "$1" | sed -n 's/.*"message_type":"snapshot".*"id":"\([0-9a-f]*\)".*/\1/p'; }

prune() {
	local n id before after
	(cd "$module" && go build -o "$work/tinychunks" ./bench/tinychunks)
	./tinychunks repo
	for n in {1..7}; do
		noise | "$cairn" snapshot -q - --host garbage
	done
	mkdir source
	for n in {1..6}; do
		# In files long enough to be cut, and not bundled.
		noise | split -b 320000 -d -a 5 - "source/$n-"
	done
	"$cairn" snapshot -q source --host garbage
	find source -name '*[02468]' -delete # half of these chunks, spread over all packs
	for n in {1..7}; do
		noise | tee >(sha256sum >>should) | "$cairn" snapshot -q - --host kept
	done
	"$cairn" snapshot -q source --host kept
	echo "prune: $("$cairn" stats | grep '  index')" >&2

	listed garbage >garbage
	[[ $(wc -l <garbage) == 8 ]] || { echo "prune: not all snapshots are listed" >&2; exit 1; }
	measure prune "forget" "$cairn" forget -q --yes --allow-many $(<garbage)
	before=$(du -sm repo | cut -f 1)
	measure prune "prune" "$cairn" prune -q --yes
	after=$(du -sm repo | cut -f 1)
	echo "prune: $after MB of $before MB are left" >&2
	((after * 100 < before * 60)) || { echo "prune: that is not half of it" >&2; exit 1; }
	measure prune "check --read-data" "$cairn" check -q --read-data

	listed kept >kept
	[[ $(wc -l <kept) == 8 ]] || { echo "prune: not all snapshots are left" >&2; exit 1; }
	head -n 7 kept | while read -r id; do "$cairn" cat "$id:stdin/stdin" | sha256sum; done | diff - should
	"$cairn" restore -q "latest:$work/source" --host kept --target target
	diff -r source target
	rm -rf source target repo cache garbage kept should
}

echo '| workload | command | anonymous memory | time |'
echo '|---|---|---:|---:|'
for workload in ${WORKLOADS:-flat many stream prune}; do
	"$workload"
done
