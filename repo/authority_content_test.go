package repo_test

import (
	"bytes"
	"context"
	"runtime"
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
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
func TestAttackJunkChunk(t *testing.T) {
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

// forgePack stores a pack with the given frames, and a segment that names it.
func (a *attacker) forgePack(kind seal.Kind, frames ...frame) string {
	a.Helper()
	var object bytes.Buffer
	h := seal.Header{Kind: kind, Repository: a.Repository, Place: a.Place}
	p, err := pack.NewWriter(&object, h, a.repo.Config().Public, a.Keys, a.Random)
	a.must(err)
	for _, f := range frames {
		_, err = p.Append(f.Entry, bytes.Clone(f.encoded))
		a.must(err)
	}
	f, err := p.Finish()
	a.must(err)
	name := repo.PackName(kind, f.ID)
	a.put(name, object.Bytes())
	a.segment(f)
	return name
}

// segment publishes a segment that says what the attacker likes.
func (a *attacker) segment(packs ...pack.Finished) {
	a.Helper()
	b := index.NewBuilder()
	for _, f := range packs {
		a.must(b.AddPack(f))
	}
	h := seal.Header{Kind: seal.Segment, Repository: a.Repository, Place: a.Place}
	object, id, err := b.Encode(a.Random, h, a.Keys, a.Key)
	a.must(err)
	a.put("index/"+id.String(), object)
}

// bomb is a zstd frame of a few KB that expands to a GiB: blocks of one repeated byte,
// 128 KiB each (RFC 8878, section 3.1.1.2).
func bomb() []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 10 << 3} // no size given; a window of 1 MiB
	for i := range 8192 {
		header := uint32(128<<10)<<3 | 1<<1
		if i == 8191 {
			header |= 1
		}
		b = append(b, byte(header), byte(header>>8), byte(header>>16), 'x')
	}
	return b
}

// allocated returns how many MiB fn allocates.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) >> 20
}

// ownChunk returns where the host's block lies.
func (s *siege) ownChunk() repo.Ref {
	s.Helper()
	keys := s.evil.Keys
	hasher := chunk.NewHasher(chunk.Keys{Data: keys.ChunkData, Node: keys.ChunkNode, List: keys.ChunkList})
	return repo.Ref{ID: hasher.Sum(chunk.Data, s.files["block"]), Kind: chunk.Data}
}

// A frame that expands without end costs no more than what the chunk should have, and the
// chunk is taken from elsewhere.
func TestAttackDecompressionBomb(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		ref := s.ownChunk()
		var names []string
		for _, raw := range []uint32{1, blockSize, pack.MaxChunk} {
			for range 3 { // so that some come before the good one
				names = append(names, s.evil.forgePack(seal.DataPack,
					frame{pack.Entry{ID: ref.ID, Kind: ref.Kind, Encoding: pack.Zstd, Raw: raw}, bomb()}))
			}
		}
		r := s.stranger(admin)
		n := allocated(func() { s.stands(names...) })
		if n > 2048 { // each of several dozen tries may take 16 MiB, and tests beside this one some too
			t.Errorf("%d MiB were allocated", n)
		}
		s.saying(problemOf(s.check(r), names[0]), "damaged")
	})
}

// A node of 16 MiB, whose ID is right, is refused before it is taken apart.
func TestAttackHugeNode(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		wr := s.begin(s.evil.repo)
		id, err := wr.PutNode(chunk.Node, make([]byte, pack.MaxChunk))
		s.must(err)
		now := s.now()
		own, err := commit(t.Context(), wr, snapshot.Root{ID: id}, "huge", now)
		s.must(err)
		info, ok := s.snapshots(s.stranger(admin)).Get(own)
		if !ok {
			t.Fatal("the attacker's snapshot is not listed")
		}
		r := s.stranger(admin)
		_, err = restore(t.Context(), r, info)
		s.wants(err, seal.ErrDamaged)
		s.saying(err, "node of 16777216 bytes")
		s.stands("tree node " + id.Short())
	})
}

// A tree whose nodes name each other many times: keys show it at once.
func TestAttackTreeBomb(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		wr := s.begin(s.evil.repo)
		leaf := snapshot.Leaf{Entries: []snapshot.Entry{{Key: "\x00a", Type: snapshot.FIFO}}}
		p, err := leaf.Append(nil)
		s.must(err)
		id, err := wr.PutNode(chunk.Node, p)
		s.must(err)
		entries := uint64(1)
		level := uint8(1)
		for ; level <= snapshot.MaxLevel; level++ {
			node := snapshot.Inner{Level: level, Children: []snapshot.Child{{Key: "\x00a", ID: id, Entries: entries}, {Key: "\x00b", ID: id, Entries: entries}}}
			p, err := node.Append(nil)
			s.must(err)
			id, err = wr.PutNode(chunk.Node, p)
			s.must(err)
			entries *= 2
		}
		own, err := commit(t.Context(), wr, snapshot.Root{ID: id, Level: level - 1}, "bomb", s.now())
		s.must(err)
		info, _ := s.snapshots(s.stranger(admin)).Get(own)
		_, err = restore(t.Context(), s.stranger(admin), info)
		s.wants(err, seal.ErrDamaged)
		s.saying(err, "its keys belong elsewhere")
		s.stands("tree node")
	})
}

// A list has no keys, so some dozen nodes can have 2^40 places. A check visits each node
// once, and says of each file that has the list that it can't be had.
func TestAttackListBomb(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		wr := s.begin(s.evil.repo)
		lost := chunk.ID(s.random.bytes(32))
		item := snapshot.ListItem{ID: lost, Length: 1}
		const top = 40
		for level := range uint8(top + 1) {
			node := snapshot.ListNode{Level: level, Items: []snapshot.ListItem{item, item}}
			p, err := node.Append(nil)
			s.must(err)
			id, err := wr.PutNode(chunk.List, p)
			s.must(err)
			item = snapshot.ListItem{ID: id, Length: 2 * item.Length}
		}
		b := snapshot.NewBuilder(s.evil.Keys.TreeCut, func(_ context.Context, p []byte) (chunk.ID, error) { return wr.PutNode(chunk.Node, p) })
		s.must(b.Add(t.Context(), &snapshot.Entry{Key: "", Type: snapshot.Directory}))
		for _, name := range []string{"a", "b"} {
			s.must(b.Add(t.Context(), &snapshot.Entry{
				Key: snapshot.Key("").Child(name), Type: snapshot.File, Size: item.Length, Hash: [16]byte{1},
				List: &snapshot.ListRef{Root: item.ID, Level: top},
			}))
		}
		root, err := b.Finish(t.Context())
		s.must(err)
		_, err = commit(t.Context(), wr, root, "bomb", s.now())
		s.must(err)
		report := s.check(s.stranger(admin))
		if len(report.Problems) != 1 || report.Nodes > 100 {
			t.Fatalf("%d nodes; %+v", report.Nodes, report.Problems)
		}
		var paths []string
		for _, f := range report.Problems[0].Files {
			paths = append(paths, f.Path)
		}
		if !slices.Equal(paths, []string{"/a", "/b"}) || report.Problems[0].MoreFiles > 0 {
			t.Errorf("lost are %q and %d more", paths, report.Problems[0].MoreFiles)
		}
		if !slices.Equal(report.Problems[0].Chunks, []chunk.ID{lost}) {
			t.Errorf("lost are %v", report.Problems[0].Chunks)
		}
		s.stands("data chunks")
	})
}

// Segments that say of the host's chunk that it is where it is not: readers go on to where
// it is, and the host goes by its own.
func TestAttackFalsePlaces(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		ref := s.ownChunk()
		var where pack.Finished
		for _, name := range s.names("data/") {
			info, err := s.storage.Stat(t.Context(), name)
			s.must(err)
			where = pack.Finished{ID: s.packID(name), Kind: seal.DataPack, Size: info.Size}
		}
		lie := func(e pack.Entry, change func(*pack.Finished)) {
			e.ID = ref.ID
			f := where
			f.Entries = []pack.Entry{e}
			change(&f)
			s.evil.segment(f)
		}
		plain := pack.Entry{Kind: chunk.Data, Offset: pack.PrefixSize + 5, Raw: 1000, Stored: 1000 + seal.Overhead}
		nowhere := func(f *pack.Finished) { f.ID = pack.ID(s.random.bytes(32)) }
		for range 20 {
			lie(plain, nowhere)
		}
		lie(plain, func(*pack.Finished) {})
		large := pack.Entry{Kind: chunk.Data, Offset: 1 << 30, Raw: pack.MaxChunk, Stored: pack.MaxChunk + seal.Overhead}
		lie(large, func(f *pack.Finished) { nowhere(f); f.Size = 2 << 30 })
		lie(pack.Entry{Kind: chunk.Node, Offset: plain.Offset, Raw: plain.Raw, Stored: plain.Stored},
			func(f *pack.Finished) { nowhere(f); f.Kind = seal.MetaPack })
		wr := s.begin(s.host())
		if _, isNew, err := wr.Put(chunk.Data, s.files["block"]); err != nil || isNew {
			t.Errorf("the host's chunk is new to it: %v, %v", isNew, err)
		}
		s.must(wr.Abort(t.Context()))
		s.stands()
		// A false size of a pack that is there.
		lie(plain, func(f *pack.Finished) { f.Size++ })
		s.stands(repo.PackName(seal.DataPack, where.ID))
	})
}

// Junk under the ID of the host's root node costs nobody the tree.
func TestAttackJunkNode(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		info, _ := s.snapshots(s.stranger(admin)).Get(s.id)
		s.must(s.stranger(admin).LoadBody(t.Context(), info))
		ref := repo.Ref{ID: info.Body.Root.ID, Kind: chunk.Node}
		var names []string
		for range 4 {
			names = append(names, s.evil.forgePack(seal.MetaPack, junk(ref, s.random.bytes(500))))
		}
		s.stands(names...)
		s.saying(problemOf(s.check(s.stranger(admin)), names[0]), "other contents under its name")
	})
}

// A snapshot that says of the host's nodes what they are not is damaged, and the host's,
// which has the same nodes, is not.
func TestAttackFalseMention(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		// A list that the host has, and a file of the attacker's with the same.
		wr := s.begin(s.host())
		p, err := (&snapshot.ListNode{Items: []snapshot.ListItem{{Length: 70}, {Length: 30}}}).Append(nil)
		s.must(err)
		listID, err := wr.PutNode(chunk.List, p)
		s.must(err)
		tree := func(wr *repo.Writer, name string, size uint64, level uint8) snapshot.Root {
			b := snapshot.NewBuilder(s.evil.Keys.TreeCut, func(_ context.Context, p []byte) (chunk.ID, error) { return wr.PutNode(chunk.Node, p) })
			s.must(b.Add(t.Context(), &snapshot.Entry{Key: "", Type: snapshot.Directory}))
			s.must(b.Add(t.Context(), &snapshot.Entry{Key: snapshot.Key("").Child(name), Type: snapshot.File, Size: size, Hash: [16]byte{1},
				List: &snapshot.ListRef{Root: listID, Level: level}}))
			root, err := b.Finish(t.Context())
			s.must(err)
			return root
		}
		good, err := commit(t.Context(), wr, tree(wr, "file", 100, 0), "good", s.now())
		s.must(err)
		s.stands()
		lies := make(map[snapshot.ID]bool)
		for name, lie := range map[string]struct {
			size  uint64
			level uint8
		}{"longer": {101, 0}, "higher": {100, 1}} {
			wr := s.begin(s.evil.repo)
			_, err := wr.PutNode(chunk.List, p)
			s.must(err)
			id, err := commit(t.Context(), wr, tree(wr, name, lie.size, lie.level), "a lie", s.now())
			s.must(err)
			lies[id] = true
		}
		report := s.check(s.stranger(admin))
		s.checks(report, "tree node "+listID.Short())
		found := 0
		for _, p := range report.Problems {
			for _, f := range p.Files {
				found++
				if !lies[f.Snapshot] {
					t.Errorf("%s of snapshot %s is said to be damaged", f.Path, f.Snapshot.Short())
				}
			}
		}
		if found != len(lies) || len(report.Problems) != 1 {
			t.Errorf("of %d lies the check says %+v", len(lies), report.Problems)
		}
		info, _ := s.snapshots(s.stranger(admin)).Get(good)
		got, err := restore(t.Context(), s.stranger(admin), info)
		if err != nil || len(got["file"]) != 100 {
			t.Errorf("the host's file has %d bytes: %v", len(got["file"]), err)
		}
	})
}
