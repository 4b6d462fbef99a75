package repo_test

import (
	"crypto/ed25519"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// newKey returns a signing key that nobody listed.
func (w *world) newKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(w.random.bytes(32)) }

func TestWriteOnlyKey(t *testing.T) {
	w := newRepository(t)
	ctx := t.Context()
	w.addSlot("host", seal.WriteOnly)
	cache := t.TempDir()
	r := w.machine(cache, "host")
	if r.Access() != seal.WriteOnly {
		t.Fatalf("access is %s", r.Access())
	}
	f := w.someFiles()
	first := w.mustBackup(r, "first", f)
	w.has(w.stranger(admin), first, f)

	t.Run("incrementally", func(t *testing.T) {
		r := w.machine(cache, "host")
		wr := w.begin(r)
		parent, ok := wr.Snapshots().Get(first)
		if !ok || !wr.Mine(parent) || parent.Place != wr.Place() {
			t.Fatalf("the parent is not to be had: %+v", parent)
		}
		w.must(r.LoadBody(ctx, parent))
		if parent.Body.Set != "first" {
			t.Errorf("the body is of %s", parent.Body.Set)
		}
		c := snapshot.NewCursor(snapshot.Tree{Root: parent.Body.Root, Source: r})
		names := 0
		for {
			e, err := c.Next(ctx)
			w.must(err)
			if e == nil {
				break
			}
			names++
		}
		if names != len(f)+1 {
			t.Errorf("%d entries in the parent's tree", names)
		}
		f["more"] = w.random.bytes(10)
		second, err := w.finish(r, wr, "second", f)
		w.must(err)
		if raw, _ := wr.Added(); raw > 5000 {
			t.Errorf("%d bytes were stored again", raw)
		}
		w.has(w.stranger(admin), second, f)
	})

	// What needs full access.
	for name, r := range map[string]*repo.Repository{"with cache": r, "without": w.stranger("host")} {
		set := w.snapshots(r)
		if set.Len() != 2 || len(set.Damage) > 0 {
			t.Errorf("%s: %d snapshots, damage %v", name, set.Len(), set.Damage)
		}
		s, _ := set.Get(first)
		if err := r.LoadBody(ctx, s); name == "without" {
			w.wants(err, repo.ErrWriteOnly)
		} else {
			w.must(err)
		}
		admins, _ := w.snapshots(w.stranger(admin)).Get(first)
		w.must(w.stranger(admin).LoadBody(ctx, admins))
		root := repo.Ref{ID: admins.Body.Root.ID, Kind: chunk.Node}
		if name == "without" {
			_, err := r.Node(ctx, root.ID, root.Kind)
			w.wants(err, repo.ErrWriteOnly)
		}
		_, err := r.Chunk(ctx, root)
		w.wants(err, repo.ErrWriteOnly)
		w.wants(r.Chunks(ctx, []repo.Ref{root}, func(int, []byte, error) error {
			t.Error("a chunk was given")
			return nil
		}), repo.ErrWriteOnly)
		_, err = r.Check(ctx, all)
		w.wants(err, repo.ErrWriteOnly)
		_, err = r.AddSlot(ctx, repo.NewSlot{Lock: secret("mine"), Access: seal.WriteOnly})
		w.wants(err, repo.ErrWriteOnly)
		w.wants(r.RemoveSlot(ctx, r.SlotID()), repo.ErrWriteOnly)
		slots, err := r.Slots()
		w.must(err)
		if len(slots) != 2 {
			t.Errorf("%s: %d slots", name, len(slots))
		}
	}
	w.isSound()
}

// Each writer trusts what it and the admin say is stored, and the admin itself only.
func TestWhomWritersTrust(t *testing.T) {
	w := newRepository(t)
	w.addSlot("a", seal.WriteOnly)
	w.addSlot("b", seal.WriteOnly)
	f := files{"x": w.random.bytes(1000)}
	for _, c := range []struct {
		by    string
		isNew map[string]bool
	}{
		{"a", map[string]bool{"a": false, "b": true, admin: true}},
		{admin, map[string]bool{"a": false, "b": false, admin: false}},
	} {
		w.mustBackup(w.stranger(c.by), "of "+c.by, f)
		for who, want := range c.isNew {
			w := w.on(t, w.storage.Clone())
			r := w.stranger(who)
			wr := w.begin(r)
			if _, isNew, err := wr.Put(chunk.Data, f["x"]); err != nil || isNew != want {
				t.Errorf("after %s stored it, the chunk is new to %s: %v, %v", c.by, who, isNew, err)
			}
			if s, ok := wr.Snapshots().Get(w.sets(w.stranger(admin))["of "+c.by]); !ok || wr.Mine(s) == want {
				t.Errorf("%s may take over parts of a snapshot of %s: %v", who, c.by, !want)
			}
			w.must(wr.Abort(t.Context()))
		}
	}
}

// Segments count only from those who may write them.
func TestForeignSegments(t *testing.T) {
	w := newRepository(t)
	w.addSlot("host", seal.WriteOnly)
	revoked := w.stranger("host")
	key := w.sealer(revoked).Key
	w.must(w.stranger(admin).RemoveSlot(t.Context(), revoked.SlotID()))
	r := w.stranger(admin)
	wr := w.begin(r)
	plain := w.random.bytes(1000)
	id, _, err := wr.Put(chunk.Data, plain)
	w.must(err)
	ref := repo.Ref{ID: id, Kind: chunk.Data}
	w.must(wr.Abort(t.Context()))
	clean := w.storage.Clone()

	for name, s := range map[string]func(protocol.Sealer) protocol.Sealer{
		"unlisted": func(s protocol.Sealer) protocol.Sealer { s.Key = w.newKey(); return s },
		"revoked":  func(s protocol.Sealer) protocol.Sealer { s.Key = key; return s },
		"other repository": func(s protocol.Sealer) protocol.Sealer {
			s.Repository[3] ^= 1
			return s
		},
		"other epoch": func(s protocol.Sealer) protocol.Sealer { s.Place.Epoch--; return s },
	} {
		t.Run(name, func(t *testing.T) {
			w := w.on(t, clean.Clone())
			r := w.stranger(admin)
			packID, segment := w.forge(r, s(w.sealer(r)), ref, w.random.bytes(1000))
			var warned []string
			o := w.options(w.storage, "", admin)
			o.Observer.Warning = func(err error) { warned = append(warned, err.Error()) }
			r, err := repo.Open(t.Context(), o)
			w.must(err)
			defer r.Close()
			wr := w.begin(r)
			if _, isNew, err := wr.Put(chunk.Data, plain); err != nil || !isNew {
				t.Errorf("the segment was believed: %v", err)
			}
			w.must(wr.Abort(t.Context()))
			if !slices.ContainsFunc(warned, func(s string) bool { return strings.Contains(s, segment[len("index/"):][:8]) }) {
				t.Errorf("nothing was said about %s: %q", segment, warned)
			}
			report := w.check(w.stranger(admin))
			if !slices.ContainsFunc(report.Problems, func(p repo.Problem) bool { return p.Object == segment }) {
				t.Errorf("the check says %+v", report.Problems)
			}
			w.delete(segment, repo.PackName(seal.DataPack, packID))
			w.isSound()
		})
	}
}

// resealed returns a manifest that says what s says, of another place or by
// another key.
func (w *world) resealed(r *repo.Repository, s protocol.Sealer, host string) (snapshot.ID, []byte) {
	w.Helper()
	m := snapshot.Manifest{
		Header: seal.Header{Kind: seal.Manifest, Repository: s.Repository, Place: s.Place},
		Open:   snapshot.Open{Time: w.now(), Host: host},
		Body:   snapshot.Body{Root: snapshot.Root{ID: chunk.ID{1}}, Set: "forged", Start: w.now(), End: w.now()},
	}
	object, err := m.Seal(s.Random, s.Keys, r.Config().Public, s.Key)
	w.must(err)
	return snapshot.IDOf(object), object
}

// A manifest counts only from who may write in its place, whether it lies in
// snapshots/ or in the end of a lease.
func TestForeignManifests(t *testing.T) {
	w := newRepository(t)
	ctx := t.Context()
	w.addSlot("host", seal.WriteOnly)
	w.must(w.stranger(admin).AddSlotIn(ctx, repo.NewSlot{Lock: secret("other"), Access: seal.WriteOnly}, 7))
	other := w.stranger("other")
	f := w.someFiles()
	good := w.mustBackup(other, "good", f)
	w.has(w.stranger(admin), good, f)
	w.isSound()
	domain0, domain7, unlisted := w.sealer(w.stranger("host")), w.sealer(other), w.newKey()
	if domain7.Place.Domain != 7 {
		t.Fatalf("the slot writes in %s", domain7.Place)
	}
	clean := w.storage.Clone()
	with := func(s protocol.Sealer, key ed25519.PrivateKey) protocol.Sealer {
		s.Key = key
		return s
	}
	for name, s := range map[string]protocol.Sealer{
		"unlisted":         with(domain0, unlisted),
		"of 0 in domain 7": with(domain7, domain0.Key),
		"of 7 in domain 0": with(domain0, domain7.Key),
	} {
		t.Run(name, func(t *testing.T) {
			w := w.on(t, clean.Clone())
			r := w.stranger(admin)
			id, object := w.resealed(r, s, "forged")
			w.replace("snapshots/"+id.String(), object)
			set := w.snapshots(r)
			if _, ok := set.Get(id); ok || set.Len() != 1 {
				t.Error("the manifest was believed")
			}
			w.finds(set.Damage, id.String())
			w.delete("snapshots/" + id.String())

			// The admin's own key in the end does not make the manifest better.
			for _, by := range []protocol.Sealer{s, w.sealer(r)} {
				end := protocol.End{Lease: protocol.LeaseID(w.random.bytes(32)), Time: w.now(), Outcome: protocol.Committed, Manifest: object}
				sealed, err := end.Seal(by)
				w.must(err)
				name := repo.LeaseName(end.Lease, "end")
				w.replace(name, sealed)
				set = w.snapshots(w.stranger(admin))
				if _, ok := set.Get(id); ok || set.Len() != 1 || len(set.Damage) != 1 {
					t.Errorf("a lease made it believed: damage %v", set.Damage)
				}
				w.delete(name)
			}
			w.isSound()
		})
	}
}
