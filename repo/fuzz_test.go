package repo_test

import (
	"io"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// Names come from listings, which a storage makes up as it likes.
func FuzzObjectNames(f *testing.F) {
	id := strings.Repeat("ab", 32)
	for _, name := range []string{"data/ab/" + id, "data/" + id, "meta/ab/" + id, "data/../" + id, "leases/" + id + "/begin", "leases//", "leases/" + id + "/beat-1/x", "\x00"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for prefix, kind := range map[string]seal.Kind{"data/": seal.DataPack, "meta/": seal.MetaPack} {
			if id, err := repo.ParsePackName(name, prefix); err == nil && repo.PackName(kind, id) != name {
				t.Errorf("%q counts as pack %s", name, id)
			}
		}
		if lease, object, ok := repo.SplitLeaseName(name); ok && "leases/"+lease+"/"+object != name {
			t.Errorf("%q counts as %q of %q", name, object, lease)
		}
	})
}

// besiegedOnce is a small repository for a fuzzer, with a snapshot that nothing may
// touch.
func besiegedOnce(f *testing.F) (*world, protocol.Sealer, snapshot.ID, files) {
	w := newRepository(f)
	w.addSlot(evil, seal.WriteOnly)
	fs := files{"x": w.random.bytes(100)}
	id := w.mustBackup(w.stranger(admin), "good", fs)
	return w, w.sealer(w.stranger(evil)), id, fs
}

// signable are the kinds that a writer may seal and sign.
var signable = []seal.Kind{seal.Segment, seal.LeaseBegin, seal.LeaseBeat, seal.LeaseEnd}

// FuzzWrittenObject stores, in a writer's name, objects whose seal and signature are
// good and that say anything, and has them checked together with the rest.
func FuzzWrittenObject(f *testing.F) {
	w, s, id, fs := besiegedOnce(f)
	lease := protocol.LeaseID{1}
	_, manifest := w.resealed(w.stranger(admin), s, "evil")
	ring := w.stranger(admin).Ring()
	seed := func(kind int, object []byte, err error) {
		w.must(err)
		o, err := seal.OpenObject(object, signable[kind], ring)
		w.must(err)
		f.Add(byte(kind), o.Plaintext)
	}
	seed(0, w.object(w.names("index/")[0]), nil)
	object, err := (&protocol.Begin{Lease: lease, Host: "evil"}).Seal(s)
	seed(1, object, err)
	object, err = (&protocol.Beat{Lease: lease, Number: 1}).Seal(s)
	seed(2, object, err)
	object, err = (&protocol.End{Lease: lease, Outcome: protocol.Committed, Manifest: manifest}).Seal(s)
	seed(3, object, err)
	names := []string{"", "begin", "beat-1", "end"}
	f.Fuzz(func(t *testing.T, kind byte, plaintext []byte) {
		kind %= byte(len(signable))
		h := seal.Header{Kind: signable[kind], Repository: s.Repository, Place: s.Place}
		object, err := seal.SealObject(s.Random, h, s.Keys, s.Key, plaintext)
		if err != nil {
			t.Fatal(err)
		}
		name := "index/" + seal.Sum[any](object).String()
		if kind > 0 {
			name = repo.LeaseName(lease, names[kind])
		}
		w := w.on(t, w.storage.Clone())
		w.must(backend.PutBytes(t.Context(), w.storage, name, object))
		w.check(w.stranger(admin))
		w.has(w.stranger(admin), id, fs)
	})
}

// FuzzTree gives a snapshot a root that says anything. It is checked and read, as far as
// its files are not larger than there is time for.
func FuzzTree(f *testing.F) {
	w, _, id, fs := besiegedOnce(f)
	info, _ := w.snapshots(w.stranger(admin)).Get(id)
	w.must(w.stranger(admin).LoadBody(f.Context(), info))
	root, err := w.stranger(admin).Node(f.Context(), info.Body.Root.ID, chunk.Node)
	w.must(err)
	f.Add(root, byte(0))
	inner, err := (&snapshot.Inner{Level: 1, Children: []snapshot.Child{{ID: info.Body.Root.ID, Entries: 2, Bytes: 100}}}).Append(nil)
	w.must(err)
	f.Add(inner, byte(1))
	f.Fuzz(func(t *testing.T, node []byte, level byte) {
		w := w.on(t, w.storage.Clone())
		if len(node) == 0 || len(node) > pack.MaxChunk {
			return
		}
		wr := w.begin(w.stranger(evil))
		id2, err := wr.PutNode(chunk.Node, node)
		w.must(err)
		own, err := commit(t.Context(), wr, snapshot.Root{ID: id2, Level: level % (snapshot.MaxLevel + 1)}, "fuzzed", w.now())
		w.must(err)
		report := w.check(w.stranger(admin))
		info, _ := w.snapshots(w.stranger(admin)).Get(own)
		w.must(w.stranger(admin).LoadBody(t.Context(), info))
		total := uint64(0)
		tree := snapshot.Tree{Root: info.Body.Root, Source: w.stranger(admin)}
		var bad error
		for e, err := range tree.All(t.Context()) {
			if bad = err; err != nil {
				break
			}
			if total += e.Size; e.Type != snapshot.File || e.Size > 1<<20 || total > 1<<20 {
				continue
			}
			if _, err := io.Copy(io.Discard, repo.NewFile(t.Context(), w.stranger(admin), e)); err != nil && bad == nil {
				bad = err
			}
		}
		if bad != nil && len(report.Problems) == 0 {
			t.Errorf("the check finds nothing wrong, and reading ends with %v", bad)
		}
		w.has(w.stranger(admin), id, fs)
	})
}
