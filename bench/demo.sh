#!/usr/bin/env bash
# Shows on real data that what goes into cairn comes out again: this source
# tree and Go's own are backed up, edited, backed up again, compared, restored
# as they were before and after, and checked. Each command is printed with what
# it says and how long it took. Ends with an error if anything differs.
set -euo pipefail
cd "$(dirname "$0")/.."

cairn=$PWD/bin/cairn
[[ -x $cairn ]] || { echo "$0: bin/cairn is missing: run make build" >&2; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/cairn-demo-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

export CAIRN_REPOSITORY=$work/repository CAIRN_CACHE_DIR=$work/cache CAIRN_PASSWORD=demo
unset CAIRN_PASSWORD_FILE CAIRN_PASSWORD_COMMAND CAIRN_IDENTITY_FILE CAIRN_JSON
data=$work/data

say() { printf '\n# %s\n' "$*"; }

# show runs a command, prints the beginning of its output, and its time.
show() {
	local start=$EPOCHREALTIME status=0 lines
	printf '\n$ %s\n' "${*/#"$cairn"/cairn}"
	"$@" >"$work/output" 2>&1 || status=$?
	lines=$(wc -l <"$work/output")
	sed -e 's/^/  /' -e 15q "$work/output"
	((lines <= 15)) || echo "  ... and $((lines - 15)) more lines"
	awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "  [%.2f s]\n", b - a }'
	((status == 0)) || { echo "$0: exit status $status" >&2; exit 1; }
}

# same fails unless two trees have the same contents and, where rsync is there
# to tell, the same metadata. That of the top is left out, since a restore into a
# directory that is there leaves that directory's own as it is.
same() {
	local differences
	differences=$(diff -r --no-dereference "$1" "$2" 2>&1 || true)
	if command -v rsync >/dev/null; then
		differences+=$(rsync -aHn --checksum --delete --itemize-changes "$1/" "$2/" 2>&1 | grep -v '^\.d[^ ]* \./$' || true)
	else
		echo "  (rsync is missing: metadata are NOT compared)"
	fi
	if [[ -n $differences ]]; then
		printf '%s: DIFFERENT:\n%s\n' "$0" "$differences" >&2
		exit 1
	fi
	echo "  $(find "$1" | wc -l) files and directories are the same"
}

say "the data: this source tree and Go's, $(go version)"
mkdir "$data"
cp -a . "$data/cairn"
cp -a "$(go env GOROOT)/src" "$data/go"
cp -a "$data" "$work/before"
du -sh "$data" | sed 's/^/  /'

show "$cairn" init
show "$cairn" snapshot --tag before "$data"

say 'nothing has changed: only metadata is read'
show "$cairn" snapshot --tag before "$data"

say 'edits of every kind: changed, appended, new, removed, moved, mode, time, links, holes'
sed -i 's/the/THE/' "$data/go/fmt/print.go"
echo '// one more line' >>"$data/go/fmt/scan.go"
head -c 3000000 /dev/urandom >"$data/new, with 'odd' name"
rm -r "$data/go/archive"
mv "$data/go/net" "$data/net moved"
chmod 600 "$data/go/os/file.go"
touch -d '2001-02-03 04:05:06.789' "$data/go/io/io.go"
ln -s nowhere "$data/symlink"
ln "$data/go/io/pipe.go" "$data/hard link"
truncate -s 20M "$data/hole"

show "$cairn" snapshot --tag after "$data"
show "$cairn" snapshots
show "$cairn" stats
show "$cairn" diff --metadata "$("$cairn" snapshots --json --tag before | sed -n 's/.*"id":"\([0-9a-f]*\)".*/\1/p' | tail -1)" latest
for path in go/fmt/print.go go/fmt/scan.go go/archive symlink hole; do
	grep -qF "$data/$path" "$work/output" || { echo "$0: diff does not show $path" >&2; exit 1; }
done

say 'both states come back'
show "$cairn" restore "latest:$data" --tag before --target "$work/restored-before"
same "$work/before" "$work/restored-before"
show "$cairn" restore "latest:$data" --tag after --target "$work/restored-after"
same "$data" "$work/restored-after"

say 'restoring over something else repairs it'
rm -r "$work/restored-after/go/os"
echo spoiled >"$work/restored-after/go/io/io.go"
show "$cairn" restore "latest:$data" --target "$work/restored-after" --delete --yes
same "$data" "$work/restored-after"

say 'every byte of the repository is read and authenticated'
show "$cairn" check --read-data

say 'all is well'
