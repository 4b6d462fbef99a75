package repo_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// whole is a repository that has objects of every kind and in every state, and
// is sound.
type whole struct {
	*world
	made    []made            // its snapshots, oldest first
	roles   map[string]string // the object that plays a part
	older   map[string][]byte // earlier versions of what changes
	twin    *mem.Mem          // a copy that went another way: the same keys
	foreign *mem.Mem          // another repository, with the same passphrases
	memory  string            // the cache of a machine that saw everything
}

// made is a snapshot, and who made it.
type made struct {
	by    string
	set   string
	files files
	id    snapshot.ID
}

func newWhole(t *testing.T) *whole {
	w := &whole{world: newRepository(t), roles: make(map[string]string), older: make(map[string][]byte)}
	w.older["config"] = w.object("config")
	w.roles["config"], w.roles["condemned"] = "config", "condemned"
	w.roles["full key"] = "keys/" + w.addSlot("second", seal.Full).String()
	w.roles["write-only key"] = "keys/" + w.addSlot("writer", seal.WriteOnly).String()
	w.condemn("data/ab/" + strings.Repeat("ab", 32))
	w.older["condemned"] = w.object("condemned")
	w.must(w.stranger(admin).Condemn(t.Context(), protocol.CondemnedPack{Kind: seal.DataPack, ID: pack.ID{0xcd}}))
	w.twin = w.storage.Clone()
	w.fill()

	other := w.on(t, w.twin) // the same keys
	(&whole{world: other, roles: make(map[string]string)}).fill()
	other = newWorld(t) // the same passphrases
	other.random.bytes(1)
	r, err := repo.Init(t.Context(), other.options(other.storage, "", ""), params())
	w.must(err)
	w.must(r.Close())
	other.addSlot("second", seal.Full)
	other.addSlot("writer", seal.WriteOnly)
	other.condemn("data/ab/" + strings.Repeat("ef", 32))
	(&whole{world: other, roles: make(map[string]string)}).fill()
	w.foreign = other.storage

	w.memory = t.TempDir()
	w.snapshots(w.machine(w.memory, admin))
	return w
}

// fill makes what is in a repository beside keys.
func (w *whole) fill() {
	w.Helper()
	f := w.someFiles()
	f["listed"] = w.random.bytes((maxInline+2)*blockSize + 100)
	w.make(admin, "pruned", files{"x": f["small"]})
	w.make(admin, "forgotten", files{"x": f["block"]})
	before := w.names("")
	w.make(admin, "first", f)
	for _, name := range w.names("") {
		if !slices.Contains(before, name) {
			switch kind := kindOfName(name); kind {
			case "data", "meta", "index":
				if was := w.roles[kind]; was == "" || len(w.object(name)) > len(w.object(was)) {
					w.roles[kind] = name
				}
			}
		}
	}
	w.make(admin, "second", files{"own": w.random.bytes(3000), "large": f["large"], "listed": f["listed"]})
	w.make("writer", "host", files{"theirs": w.random.bytes(2*blockSize + 1), "small": f["small"]})
	w.make(admin, "third", files{"last": w.random.bytes(100), "one": f["one"]})
	pruned, forgotten := w.made[0].id, w.made[1].id
	w.made = w.made[2:]
	w.must(w.stranger(admin).Bury(w.Context(), protocol.Forgotten{ID: pruned}))
	w.roles["tombstone"] = w.names("tombstones/")[0]
	w.must(w.stranger(admin).Bury(w.Context(), protocol.Forgotten{ID: forgotten, Links: []snapshot.ID{pruned}}))
	w.delete(manifestName(pruned))
	w.roles["forgotten manifest"] = manifestName(forgotten)
	w.roles["older manifest"] = manifestName(w.made[1].id)
	w.roles["writer's manifest"] = manifestName(w.made[2].id)
	w.lease() // the newest snapshot has no manifest but in the end of its lease
}

func (w *whole) make(by, set string, f files) {
	w.Helper()
	w.made = append(w.made, made{by, set, f, w.mustBackup(w.stranger(by), set, f)})
}

// lease leaves a lease that runs, one that was given up after it was fenced, and
// one with the only copy of a manifest.
func (w *whole) lease() {
	w.Helper()
	running := w.begin(w.stranger(admin))
	w.must(running.Beat(w.Context()))
	w.Cleanup(func() { running.Abort(w.Context()) })
	w.roles["begin"], w.roles["beat"] = repo.LeaseName(running.LeaseID(), "begin"), repo.LeaseName(running.LeaseID(), "beat-1")

	other := w.begin(w.stranger("writer"))
	w.must(other.Beat(w.Context()))
	w.fence(other)
	w.must(other.Abort(w.Context()))
	w.roles["fenced end"] = repo.LeaseName(other.LeaseID(), "end")

	before := w.names("leases/")
	f := files{"half": w.random.bytes(500)}
	w.made = append(w.made, made{admin, "half", f, w.halfCommitted("half", f)})
	for _, name := range w.names("leases/") {
		if strings.HasSuffix(name, "/end") && !slices.Contains(before, name) {
			w.roles["commit"] = name
		}
	}
}

// kindOfName groups objects by what they are.
func kindOfName(name string) string {
	kind, rest, _ := strings.Cut(name, "/")
	if kind == "leases" {
		_, rest, _ = strings.Cut(rest, "/")
		return strings.TrimRight(rest, "-0123456789")
	}
	return kind
}

// another returns an object of a kind that is not the given one.
func (w *world) another(storage *mem.Mem, kind string, than []byte) []byte {
	w.Helper()
	other := w.on(w.TB, storage)
	for _, name := range other.names("") {
		if object := other.object(name); kindOfName(name) == kind && !bytes.Equal(object, than) {
			return object
		}
	}
	return nil
}

// part is a region of an object, and a byte in it.
type part struct {
	name string
	at   int
}

// parts are the regions of an object, docs/format.md.
func (w *whole) parts(kind string, object []byte) []part {
	n := len(object)
	parts := []part{{"magic", 0}, {"kind", 6}, {"version", 7}, {"repository", 8}, {"epoch", 40}, {"domain", 44}}
	signature := []part{{"signer", n - 96}, {"signature", n - 1}}
	switch kind {
	case "config", "condemned", "tombstones":
		return slices.Concat(parts, []part{{"body", 48}, {"middle", n / 2}, {"end", n - 97}}, signature)
	case "keys":
		return slices.Concat(parts, []part{{"slot kind", 48}, {"access", 49}, {"parameters", 50}, {"commitment", n - 96 - 114 - 1}, {"bundle", n - 200}, {"tag", n - 97}}, signature)
	case "snapshots":
		return slices.Concat(parts, []part{{"length", 48}, {"salt", 52}, {"open part", 84}, {"closed part", n - 120}, {"tag", n - 97}}, signature)
	case "data", "meta":
		return append(parts, w.packParts(object)...)
	}
	return slices.Concat(parts, []part{{"salt", 48}, {"ciphertext", 80}, {"middle", n / 2}, {"last of ciphertext", n - 113}, {"tag", n - 97}}, signature)
}

func (w *whole) packParts(object []byte) []part {
	w.Helper()
	n := len(object)
	start, err := pack.DirectoryStart(int64(n), object)
	w.must(err)
	kind := seal.DataPack
	if object[6] == 'M' {
		kind = seal.MetaPack
	}
	entries, err := pack.OpenDirectory(object[:pack.PrefixSize], object[start:n-pack.FooterSize], int64(n), kind, w.stranger(admin).Ring())
	w.must(err)
	last := entries[len(entries)-1]
	end := int(last.Offset + last.Stored)
	parts := []part{
		{"salt", 48}, {"key", 80}, {"key's tag", pack.PrefixSize - 1},
		{"first frame", pack.PrefixSize}, {"middle frame", int(entries[len(entries)/2].Offset) + 1}, {"frame's tag", end - 1},
		{"directory", int(start)}, {"directory's tag", n - pack.FooterSize - 1}, {"directory's length", n - pack.FooterSize}, {"footer", n - 1},
	}
	if end < int(start) {
		parts = append(parts, part{"padding", end})
	}
	return parts
}
