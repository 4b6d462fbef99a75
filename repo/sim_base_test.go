package repo_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
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
	for i := range 6 {
		pool[fmt.Sprint(i)] = seeded(fmt.Sprint("pool", number, i)).bytes(50 + rng.IntN(100))
	}
	w := &randomWorld{
		T: t, base: &base{book: b.fork(), storage: b.storage.Clone(), pool: pool}, seed: 1<<40 + number, rng: rng, sway: 0.02, heard: make(map[string]int),
	}
	w.storage = w.base.storage
	p := &place{name: "past"}
	for range 3 + rng.IntN(3) {
		p.scripts = append(p.scripts, w.randomBackup(p))
	}
	p.scripts = append(p.scripts, forgetSome(rng.Uint64()))
	if number%3 == 1 {
		w.odds.crash = 0.02
	}
	w.places = []*place{p}
	b.must(w.run())
	if number%2 == 1 {
		w.addDeltaToSome()
	}
	out := w.base
	out.acked, out.forgotten = w.acknowledged, w.forgotten
	out.cache = out.warmCache(out.storage)
	b.must(w.holds(w.storage, w.acknowledged))
	return out
}

// addDeltaToSome makes a delta to a chunk of the pool, perhaps one that is of no more use.
func (w *randomWorld) addDeltaToSome() {
	v, err := w.look(w.storage)
	w.must(err)
	var whole []chunk.ID
	for _, name := range slices.Sorted(maps.Keys(w.pool)) {
		if id := w.dataID(w.pool[name]); v.full[id] {
			whole = append(whole, id)
		}
	}
	if len(whole) > 0 {
		w.hear(w.addDelta(w.storage, fmt.Sprint("delta", w.seed), whole[w.rng.IntN(len(whole))]))
	}
}

// addDelta makes a snapshot with a file that is stored as a difference to a chunk that the
// storage has, and returns what the commit said. Nothing in this version of the
// engine writes that, or reads it, but prune must know what it needs.
func (b *book) addDelta(m *mem.Mem, set string, to chunk.ID) []string {
	b.Helper()
	ctx := context.Background()
	f := files{set: seeded(set).bytes(100)}
	b.add(set, f)
	b.deltas[set] = true
	scratch := m.Clone()
	had := b.names(m, "")
	said := b.mustDirect(scratch, set, backupOf(set, f))
	// All that the run has stored, but its data pack with the whole chunk; and another segment.
	builder := index.NewBuilder()
	for _, name := range b.names(scratch, "") {
		object := b.object(scratch, name)
		kind, _, _ := strings.Cut(name, "/")
		if slices.Contains(had, name) || kind == "data" || kind == "index" {
			continue
		}
		if kind == "meta" {
			b.must(builder.AddPack(b.finished(name, object)))
		}
		b.must(backend.PutBytes(ctx, m, name, object))
	}
	s, err := b.reader.Sealer()
	b.must(err)
	staged, err := m.Stage(ctx)
	b.must(err)
	random := seeded(set + " pack")
	h := seal.Header{Kind: seal.DataPack, Repository: b.reader.ID(), Place: s.Place}
	p, err := pack.NewWriter(staged, h, b.reader.Config().Public, s.Keys, random)
	b.must(err)
	_, err = p.Append(pack.Entry{ID: b.dataID(f[set]), Kind: chunk.Data, Encoding: pack.Delta, Raw: 100, Bases: pack.Bases{to}}, make([]byte, 30, 100))
	b.must(err)
	done, err := p.Finish()
	b.must(err)
	b.must(staged.Commit(ctx, repo.PackName(done.Kind, done.ID)))
	b.must(builder.AddPack(done))
	b.putSegment(m, builder, s, random)
	return said
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
