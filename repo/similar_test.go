package repo_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
)

// nearby takes the chunks at the same place for bases, with contents that a test has.
type nearby struct {
	contents map[chunk.ID][]byte

	mu     sync.Mutex
	deltas int
	whole  int
}

func (n *nearby) Bases(_ context.Context, c *repo.NewChunk, home repo.Home) (bases []repo.Base, err error) {
	for _, id := range c.Near {
		_, ok, err := home(id)
		if err != nil {
			return nil, err
		}
		if ok {
			bases = append(bases, repo.Base{ID: id, Plaintext: n.contents[id]})
		}
	}
	return bases, nil
}

func (n *nearby) Stored(_ *repo.NewChunk, _ []byte, encoding pack.Encoding) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if encoding != pack.Delta {
		n.whole++
	} else {
		n.deltas++
	}
}

// changed returns p with few bytes changed.
func changed(p []byte) []byte {
	q := bytes.Clone(p)
	for i := 10; i < len(q); i += 3000 {
		q[i]++
	}
	return q
}

// putNear puts a chunk and commits.
func (w *world) putNear(r *repo.Repository, n *nearby, set string, p []byte, near ...chunk.ID) repo.Ref {
	w.Helper()
	o := repo.WriterOptions{Host: "alpha"}
	if n != nil {
		o.Similar = n
	}
	wr, err := r.NewWriter(w.Context(), o)
	w.must(err)
	stored, err := wr.PutNear(chunk.Data, p, near)
	w.must(err)
	root, err := put(w.Context(), r, wr, files{set: p})
	w.must(err)
	_, err = commit(w.Context(), wr, root, set, w.now())
	w.must(err)
	return repo.Ref{ID: stored.ID, Kind: chunk.Data}
}

func (w *world) reads(r *repo.Repository, ref repo.Ref, want []byte) {
	w.Helper()
	if p, err := r.Chunk(w.Context(), ref); err != nil || !bytes.Equal(p, want) {
		w.Errorf("chunk %s: %d bytes of %d, %v", ref.ID.Short(), len(p), len(want), err)
	}
	w.must(r.Chunks(w.Context(), []repo.Ref{ref, ref}, func(_ int, p []byte, err error) error {
		if err != nil || !bytes.Equal(p, want) {
			w.Errorf("chunk %s of Chunks: %d bytes of %d, %v", ref.ID.Short(), len(p), len(want), err)
		}
		return nil
	}))
}

// encodings returns how a chunk is stored.
func encodings(t *testing.T, r *repo.Repository, ref repo.Ref) (all []pack.Entry) {
	places, err := r.Places(ref.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range places {
		all = append(all, p.Entry)
	}
	return all
}

func TestDeltas(t *testing.T) {
	w := newRepository(t)
	r := w.machine(t.TempDir(), admin)
	a, b := w.random.bytes(100_000), w.random.bytes(80_000)
	first, second := w.putNear(r, nil, "a", a), w.putNear(r, nil, "b", b)
	n := &nearby{contents: map[chunk.ID][]byte{first.ID: a, second.ID: b}}

	of := map[string]struct {
		p     []byte
		bases []chunk.ID
	}{
		"one base":   {changed(a), []chunk.ID{first.ID}},
		"two bases":  {changed(append(bytes.Clone(a[30_000:]), b[:50_000]...)), []chunk.ID{first.ID, second.ID}},
		"other way":  {changed(append(bytes.Clone(b[30_000:]), a[:50_000]...)), []chunk.ID{second.ID, first.ID}},
		"much alike": {append(bytes.Clone(a), 1), []chunk.ID{first.ID}},
	}
	for name, x := range of {
		ref := w.putNear(r, n, name, x.p, x.bases...)
		e := encodings(t, r, ref)
		if len(e) != 1 || e[0].Encoding != pack.Delta || fmt.Sprint(e[0].Bases.IDs()) != fmt.Sprint(x.bases) || int(e[0].Stored) > len(x.p)/20 {
			t.Errorf("%s: stored as %v", name, e)
		}
		w.reads(r, ref, x.p)
		w.reads(w.stranger(admin), ref, x.p)
		again := w.begin(r)
		if ok, err := again.Has(ref); !ok || err != nil {
			t.Errorf("%s: the next run does not have it: %v", name, err)
		}
		w.must(again.Abort(t.Context()))

		// Not of a delta in turn: depth is one.
		deeper := &nearby{contents: map[chunk.ID][]byte{ref.ID: x.p}}
		if e := encodings(t, r, w.putNear(r, deeper, name+", deeper", changed(changed(x.p)), ref.ID)); len(e) != 1 || e[0].Encoding == pack.Delta {
			t.Errorf("%s: a delta of a delta: %v", name, e)
		}
	}
	if n.deltas != len(of) {
		t.Errorf("told of %d deltas", n.deltas)
	}
	w.isSound()

	// Contents that are not the base's, as from a damaged cache, and chunks that share nothing.
	p := changed(b)
	n.contents[second.ID] = changed(changed(b))
	if e := encodings(t, r, w.putNear(r, n, "lie", p, second.ID)); len(e) != 1 || e[0].Encoding == pack.Delta {
		t.Errorf("with false contents of the base: %v", e)
	}
	if e := encodings(t, r, w.putNear(r, n, "unlike", w.random.bytes(100_000), first.ID)); len(e) != 1 || e[0].Encoding == pack.Delta {
		t.Errorf("of an unlike chunk: %v", e)
	}
	w.isSound()
}

// What hangs on a lost base is lost, and named; no writer relies on it, and the next stores it anew.
func TestDeltaOfLostBase(t *testing.T) {
	w := newRepository(t)
	r := w.machine(t.TempDir(), admin)
	a := w.random.bytes(100_000)
	base := w.putNear(r, nil, "a", a)
	lost := w.names("data/")
	n := &nearby{contents: map[chunk.ID][]byte{base.ID: a}}
	p := changed(a)
	ref := w.putNear(r, n, "b", p, base.ID)
	w.delete(lost...)

	r = w.stranger(admin)
	_, err := r.Chunk(t.Context(), ref)
	w.wants(err, repo.ErrDamage)
	for _, id := range []chunk.ID{ref.ID, base.ID} {
		if !strings.Contains(err.Error(), id.Short()) {
			t.Errorf("chunk %s is not named: %v", id.Short(), err)
		}
	}
	wr := w.begin(r)
	if ok, err := wr.Has(ref); ok || err != nil {
		t.Errorf("a writer relies on it: %v", err)
	}
	w.must(wr.Abort(t.Context()))
	w.putNear(r, n, "b", p, base.ID)
	w.reads(r, ref, p)
}
