package repo_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// base is a repository with a history, in which random worlds begin: some snapshots, some
// of them forgotten, what killed runs left, other writers' packs, deltas.
type base struct {
	*book
	storage   *mem.Mem
	pool      files // that its snapshots have some of
	cache     string
	acked     []snapshot.ID
	forgotten []snapshot.ID
}

// hostSecret opens a slot that can only write.
const hostSecret = "host"

// makeBases makes so many bases.
func makeBases(t *testing.T, n int) []*base {
	b := newBook(t)
	b.addHost()
	var bases []*base
	for i := range n {
		bases = append(bases, b.makeBase(t, uint64(i)))
	}
	return bases
}

// addHost adds a key that can only write.
func (b *book) addHost() {
	b.Helper()
	_, err := b.reader.AddSlot(context.Background(), repo.NewSlot{Lock: secret(hostSecret), Access: seal.WriteOnly, Label: hostSecret})
	b.must(err)
}

func (b *book) makeBase(t *testing.T, number uint64) *base {
	rng := rand.New(rand.NewPCG(number, 3))
	pool := make(files)
	for i := range 7 {
		pool[fmt.Sprint(i)] = seeded(fmt.Sprint("pool", number, i)).bytes(200 + rng.IntN(100))
	}
	w := &randomWorld{
		T: t, base: &base{book: b.fork(), storage: b.storage.Clone(), pool: pool}, seed: 1<<40 + number, rng: rng, sway: 0.02, heard: make(map[string]int),
	}
	w.storage = w.base.storage
	w.relatives()
	if number%2 == 1 {
		w.hear(w.eachOther(w.storage, "6", "7"))
	}
	p := &place{name: "past", kin: w.kin}
	for range 3 + rng.IntN(3) {
		p.scripts = append(p.scripts, w.randomBackup(p))
	}
	p.scripts = append(p.scripts, forgetSome(rng.Uint64()))
	if number%3 == 1 {
		w.odds.crash = 0.02
	}
	w.places = []*place{p}
	b.must(w.run())
	out := w.base
	out.acked, out.forgotten = w.acknowledged, w.forgotten
	out.cache = out.warmCache(out.storage)
	b.must(w.holds(w.storage, w.acknowledged))
	return out
}

// eachOther has two files of the pool stored twice, by writers that know nothing of each other:
// each whole by the one, and as a delta of the other's by the other.
func (w *randomWorld) eachOther(m *mem.Mem, x, y string) []string {
	w.base.Helper()
	one := func(name string) script {
		set := fmt.Sprint("only ", name)
		w.add(set, files{name: w.pool[name]})
		return backupOf(set, files{name: w.pool[name]})
	}
	toX, toY := one(x), one(y)
	return w.beside(m, map[string]script{"xy": sequence(toX, toY), "yx": sequence(toY, toX)})
}

// relatives makes the chunks of the pool similar to each other: some in pairs, of which each
// can be a delta of the other, and some to two.
func (w *randomWorld) relatives() {
	p := w.pool
	p["3"], p["4"] = altered(p["0"]), altered(p["1"])
	p["5"] = across(p["1"], p["2"])
	p["7"] = altered(p["6"])
	for _, pair := range [][2]string{{"0", "3"}, {"1", "4"}, {"6", "7"}} {
		w.relate(p[pair[0]], p[pair[1]])
		w.relate(p[pair[1]], p[pair[0]])
	}
	w.relate(p["5"], p["1"], p["2"])
	w.relate(p["2"], p["5"])
}

// finished describes a pack as who wrote it did.
func (b *book) finished(name string, object []byte) pack.Finished {
	b.Helper()
	entries, err := b.entries(name, object)
	b.must(err)
	id, err := pack.ParseID(path.Base(name))
	b.must(err)
	return pack.Finished{ID: id, Kind: kindOf(name), Size: int64(len(object)), Entries: entries}
}

// putSegment stores a segment that the holder of some keys signs.
func (b *book) putSegment(m *mem.Mem, builder *index.Builder, s protocol.Sealer, random io.Reader) {
	b.Helper()
	h := seal.Header{Kind: seal.Segment, Repository: s.Repository, Place: s.Place}
	object, id, err := builder.Encode(random, h, s.Keys, s.Key)
	b.must(err)
	b.must(backend.PutBytes(context.Background(), m, "index/"+id.String(), object))
}

// dataID returns the ID of a chunk of data.
func (b *book) dataID(plaintext []byte) chunk.ID {
	k, err := b.reader.WriteKeys()
	b.must(err)
	h := chunk.NewHasher(chunk.Keys{Data: k.ChunkData, Node: k.ChunkNode, List: k.ChunkList})
	return h.Sum(chunk.Data, plaintext)
}

func (b *book) names(m *mem.Mem, prefix string) (names []string) {
	q := request{op: "list", name: prefix}
	for _, info := range q.serve(m).infos {
		names = append(names, info.Name)
	}
	return names
}
