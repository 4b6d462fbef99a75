package repo_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
)

// forge stores a pack that holds junk under a chunk's ID, and a segment that
// says so, with the given sealer.
func (w *world) forge(r *repo.Repository, s protocol.Sealer, ref repo.Ref, junk []byte) (pack.ID, string) {
	w.Helper()
	kind := seal.DataPack
	if ref.Kind.IsMeta() {
		kind = seal.MetaPack
	}
	var object bytes.Buffer
	h := seal.Header{Kind: kind, Repository: s.Repository, Place: s.Place}
	p, err := pack.NewWriter(&object, h, r.Config().Public, s.Keys, s.Random)
	w.must(err)
	_, err = p.Append(pack.Entry{ID: ref.ID, Kind: ref.Kind, Encoding: pack.Plain, Raw: uint32(len(junk))}, bytes.Clone(junk))
	w.must(err)
	f, err := p.Finish()
	w.must(err)
	w.must(backend.PutBytes(w.Context(), w.storage, repo.PackName(kind, f.ID), object.Bytes()))
	b := index.NewBuilder()
	w.must(b.AddPack(f))
	h.Kind = seal.Segment
	segment, id, err := b.Encode(s.Random, h, s.Keys, s.Key)
	w.must(err)
	name := "index/" + id.String()
	w.must(backend.PutBytes(w.Context(), w.storage, name, segment))
	return f.ID, name
}

// A stolen key that publishes junk under known IDs keeps nobody from storing
// the true chunk, and nobody from reading it.
func TestJunkUnderKnownID(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			w := newRepository(t)
			w.addSlot("good", seal.WriteOnly)
			w.addSlot("evil", seal.WriteOnly)
			cache := t.TempDir()
			good, evil := w.machine(cache, "good"), w.stranger("evil")
			plain := w.random.bytes(1000)
			wr := w.begin(good)
			id, _, err := wr.Put(chunk.Data, plain)
			w.must(err)
			ref := repo.Ref{ID: id, Kind: chunk.Data}
			if when == "after" {
				w.must(wr.Flush(t.Context()))
			}
			w.must(wr.Abort(t.Context()))
			var packs []string
			for range 3 { // so that some stand before the good pack, some behind
				p, _ := w.forge(evil, w.sealer(evil), ref, w.random.bytes(1000))
				packs = append(packs, repo.PackName(seal.DataPack, p))
			}
			f := files{"x": plain}
			for _, who := range []string{"good", admin} {
				r := w.stranger(who)
				id := w.mustBackup(r, "of "+who, f)
				w.has(w.stranger(admin), id, f)
			}
			reader := w.stranger(admin)
			readMany(w, reader, slices.Repeat([]stored{{ref, plain}}, 6))
			report := w.check(reader)
			for _, name := range packs {
				n := slices.IndexFunc(report.Problems, func(p repo.Problem) bool { return p.Object == name })
				if n < 0 {
					t.Errorf("the check finds no junk in %s", name)
				} else if p := report.Problems[n]; len(p.Files) > 0 {
					t.Errorf("junk that nobody needs costs files: %+v", p)
				}
			}
			if len(report.Problems) != len(packs) {
				t.Errorf("the check says %+v", report.Problems)
			}
		})
	}
}
