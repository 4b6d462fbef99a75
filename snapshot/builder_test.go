package snapshot_test

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/snapshot"
)

// collect returns copies of all entries of a tree.
func collect(t testing.TB, tree snapshot.Tree) (all []snapshot.Entry) {
	t.Helper()
	for e, err := range tree.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, *e)
	}
	return all
}

func TestBuilderRoundTrip(t *testing.T) {
	r := newRandom(t)
	for _, n := range []int{0, 1, 100, 5000} {
		entries := r.entries(n)
		s := newStore()
		tree := build(t, s, entries)
		if got := collect(t, tree); !reflect.DeepEqual(got, entries) {
			t.Fatalf("%d entries come back as %d, or changed", len(entries), len(got))
		}
		if again := build(t, newStore(), entries); again.Root != tree.Root {
			t.Errorf("the same %d entries have another root", len(entries))
		}
		if s.reads > len(s.nodes) {
			t.Errorf("read %d nodes of %d", s.reads, len(s.nodes))
		}
	}
}

func TestBuilderEmpty(t *testing.T) {
	s := newStore()
	tree := build(t, s, nil)
	if tree.Root.Level != 0 || len(s.nodes) != 1 || len(collect(t, tree)) != 0 {
		t.Errorf("empty tree of level %d with %d nodes", tree.Root.Level, len(s.nodes))
	}
	if e, err := snapshot.NewCursor(tree).Seek(t.Context(), "\x00x"); e != nil || err != nil {
		t.Errorf("found %v, %v in an empty tree", e, err)
	}
}

// A tree depends on its entries alone, not on how they came about: cut points
// meet again right behind a change.
func TestBuilderSharesNodes(t *testing.T) {
	entries := plainFiles(100_000, 2000)
	s := newStore()
	before := build(t, s, entries)
	nodes := len(s.nodes)
	for name, change := range map[string]func([]snapshot.Entry) []snapshot.Entry{
		"metadata": func(e []snapshot.Entry) []snapshot.Entry { e[50_000].Mode ^= 0o100; return e },
		"inserted": func(e []snapshot.Entry) []snapshot.Entry {
			x := e[50_000]
			x.Key += "x"
			return append(append(append([]snapshot.Entry(nil), e[:50_001]...), x), e[50_001:]...)
		},
		"removed": func(e []snapshot.Entry) []snapshot.Entry { return append(e[:50_000], e[50_001:]...) },
	} {
		changed := change(append([]snapshot.Entry(nil), entries...))
		was := len(s.nodes)
		after := build(t, s, changed)
		if n := len(s.nodes) - was; after.Root == before.Root || n > 3*(int(after.Root.Level)+1) {
			t.Errorf("%s: one entry of %d made %d new nodes of %d", name, len(entries), n, nodes)
		}
	}
	was := len(s.nodes)
	if again := build(t, s, entries); again.Root != before.Root || len(s.nodes) != was {
		t.Error("the changes undone, the root is another")
	}
	other := snapshot.NewBuilder([32]byte{9}, s.sink)
	for i := range entries {
		if err := other.Add(t.Context(), &entries[i]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := other.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if shared := was + nodes - len(s.nodes); shared > nodes/2 {
		t.Errorf("with another key, %d of %d nodes are cut at the same places", shared, nodes)
	}
}

// Nodes stay within the sizes that readers count on, whatever the entries.
func TestBuilderNodeSizes(t *testing.T) {
	r := newRandom(t)
	entries := []snapshot.Entry{r.directory("")}
	for i := range 3000 {
		e := r.directory(snapshot.Key([]byte{0, 'a' + byte(i>>8), 'a' + byte(i>>4)&15, 'a' + byte(i)&15}))
		if i%100 == 0 {
			e.Xattrs = []snapshot.Xattr{{Name: "user.large", Value: r.bytes(100_000)}}
		}
		entries = append(entries, e)
	}
	s := newStore()
	build(t, s, entries)
	large := 0
	for _, p := range s.nodes {
		if len(p) > 64<<10+100_000+1000 {
			t.Errorf("node of %d bytes", len(p))
		}
		if len(p) > 64<<10 {
			large++
		}
	}
	if large == 0 {
		t.Error("no node has one of the large entries")
	}
}

func TestBuilderErrors(t *testing.T) {
	broken := errors.New("broken")
	b := snapshot.NewBuilder(cutKey, func(context.Context, []byte) (chunk.ID, error) { return chunk.ID{}, broken })
	if _, err := b.Finish(t.Context()); !errors.Is(err, broken) {
		t.Errorf("error of the sink became %v", err)
	}
	b = snapshot.NewBuilder(cutKey, newStore().sink)
	if _, err := b.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Finish(t.Context()); err == nil {
		t.Error("a tree is finished twice")
	}
	if err := b.Add(t.Context(), &snapshot.Entry{Type: snapshot.Directory}); err == nil {
		t.Error("a finished tree takes an entry")
	}
}

// sizes returns the bytes of nodes for each entry, plain and compressed.
func sizes(t testing.TB, entries []snapshot.Entry) (plain, compressed float64) {
	s := newStore()
	build(t, s, entries)
	z, err := pack.NewEncoder(pack.Default, 1)
	if err != nil {
		t.Fatal(err)
	}
	var buf []byte
	n := 0
	for _, p := range s.nodes {
		encoded, _ := z.Encode(buf[:0], p)
		n += len(encoded)
	}
	return float64(s.bytes) / float64(len(entries)), float64(n) / float64(len(entries))
}

// Entries must stay small: millions of files are common.
func TestEntrySize(t *testing.T) {
	for _, tt := range []struct {
		name              string
		size              uint32
		plain, compressed float64 // at most
	}{
		{"empty files", 0, 26, 14},
		{"small files in bundles", 2000, 48, 36},
	} {
		plain, compressed := sizes(t, plainFiles(20_000, tt.size))
		t.Logf("%s: %.1f bytes an entry, %.1f compressed", tt.name, plain, compressed)
		if plain > tt.plain || compressed > tt.compressed {
			t.Errorf("%s: %.1f bytes an entry, %.1f compressed; want at most %.0f and %.0f", tt.name, plain, compressed, tt.plain, tt.compressed)
		}
	}
}
