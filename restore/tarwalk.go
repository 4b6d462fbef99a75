package restore

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// Bounds of a stretch.
const (
	stretchBytes  = 8 << 20 // of chunks, and the last one on top
	stretchPieces = 4096
)

// stretch is a part of the archive whose chunks are read at once.
type stretch struct {
	pieces []piece
	refs   []repo.Ref
	index  map[chunk.ID]int // position in refs
	sizes  []uint32         // of the chunks, by position
	shared []bool           // by position: other files are in the chunk too, and may follow
	bytes  int64            // of all chunks
	chunks []loaded         // by position, once they are read
}

// loaded is a chunk that was read, or why it can't be had.
type loaded struct {
	plain []byte
	err   error
}

// piece is a piece of a member: its header, an extent, or both.
type piece struct {
	of           *outgoing
	begins, ends bool
	extent       snapshot.Extent // of no length: none
	chunk        int             // position in the stretch, unless it is a hole
	lost         error           // why there is no extent to this length
}

// outgoing is a member of the archive.
type outgoing struct {
	path   string // in the snapshot
	kind   snapshot.Type
	header *tar.Header
	lost   error
}

func (m *outgoing) lose(err error) {
	if m.lost == nil {
		m.lost = err
	}
}

// archivist is the first stage: a pass over the selection that makes stretches.
type archivist struct {
	*session
	out     chan<- *stretch
	stretch *stretch
	links   map[uint64]linkTarget // by hard link group
	broken  error                 // the tree is damaged, and that is not allowed
}

// linkTarget is the name of a file, of whatever type, that others are links to.
type linkTarget struct {
	name     string
	contents contentsID
}

func newArchivist(s *session, out chan<- *stretch) *archivist {
	return &archivist{session: s, out: out, stretch: newStretch(), links: make(map[uint64]linkTarget)}
}

func newStretch() *stretch { return &stretch{index: make(map[chunk.ID]int)} }

func (a *archivist) run(ctx context.Context) error {
	a.sel.lost = a.lostNode
	if err := a.sel.walk(ctx, a); err != nil {
		return err
	}
	if a.broken != nil {
		return a.broken
	}
	a.o.Observer.Progress.WalkFinished.Store(true)
	return a.flush(ctx)
}

// lostNode is told that some of the tree can't be read.
func (a *archivist) lostNode(from snapshot.Key, err error) {
	path := strings.TrimSuffix(from.Path(), "/")
	if !a.o.AllowDamaged {
		if a.broken == nil {
			a.broken = fmt.Errorf("the list of what is in the snapshot has a gap from %s on, so the archive ends there: %w; "+
				"to get what is left, allow damaged files", path, err)
		}
		return
	}
	a.count.LostNodes.Add(1)
	if a.o.Observer.Problem != nil {
		a.o.Observer.Problem(path, fmt.Errorf("entries from here on are lost, up to the next one in the archive: %w", err))
	}
}

func (a *archivist) enter(ctx context.Context, d, _ *directory) (skip bool, err error) {
	switch {
	case a.broken != nil:
		return true, a.broken
	case d.lost: // who extracts the archive makes it
		return false, nil
	case d.place == "" && a.sel.all: // whoever extracts it has a directory for the root's place
		return false, nil
	}
	name := "./"
	if d.place != "" {
		name = memberName(d.place) + "/"
	}
	return false, a.member(ctx, &d.entry, name)
}

func (a *archivist) leave(context.Context, *directory, *directory) error { return nil }

func (a *archivist) item(ctx context.Context, e *snapshot.Entry, _ int, _ *directory) error {
	if a.broken != nil {
		return a.broken
	}
	a.o.Observer.Progress.Files.Add(1)
	return a.member(ctx, e, memberName(a.sel.place(e.Key)))
}

// memberName returns what a place is called in the archive.
func memberName(p place) string { return strings.ReplaceAll(string(p), sep, "/") }

// member puts an entry into the archive.
func (a *archivist) member(ctx context.Context, e *snapshot.Entry, name string) error {
	h, errs := header(e, name)
	for _, err := range errs {
		a.problem(e.Key.Path(), err)
	}
	if h == nil {
		return nil
	}
	m := &outgoing{path: e.Key.Path(), kind: e.Type, header: h}
	isLink := false
	if e.HasLink {
		first, ok := a.links[e.Link]
		if isLink = ok && first.contents == contentsOf(e); isLink {
			linkHeader(h, first.name)
		}
		if !ok {
			a.links[e.Link] = linkTarget{name, contentsOf(e)}
		}
	}
	if isLink || e.Type != snapshot.File {
		return a.add(ctx, piece{of: m, begins: true, ends: true})
	}
	if e.Partial {
		a.warn(m.path, errPartial)
	}
	a.o.Observer.Progress.Bytes.Add(int64(e.Size))
	return a.contents(ctx, e, m)
}

// contents puts a file with its contents into the archive.
func (a *archivist) contents(ctx context.Context, e *snapshot.Entry, m *outgoing) error {
	next := snapshot.Extents(ctx, a.sel.tree.Source, e)
	left := e.Size
	for begins := true; ; begins = false {
		x, err := next()
		if err == io.EOF && left == 0 {
			if begins { // it is empty
				return a.add(ctx, piece{of: m, begins: true, ends: true})
			}
			return nil
		}
		if err == io.EOF || err == nil && x.Length > left {
			err = damagedEntry(e.Size-left, e.Size)
		}
		if err != nil && !isDamage(err) {
			return err
		}
		if err != nil { // zeros for the rest, if that is allowed
			return a.add(ctx, piece{of: m, begins: begins, ends: true, extent: snapshot.Extent{Length: left}, lost: err})
		}
		left -= x.Length
		if err := a.add(ctx, piece{of: m, begins: begins, ends: left == 0, extent: x}); err != nil {
			return err
		}
		if left == 0 && e.List == nil {
			return nil
		}
	}
}

// add adds a piece to the stretch.
func (a *archivist) add(ctx context.Context, p piece) error {
	st := a.stretch
	if p.extent.Length > 0 && !p.extent.IsHole() {
		p.chunk = st.want(p.extent)
	}
	st.pieces = append(st.pieces, p)
	if st.bytes < stretchBytes && len(st.pieces) < stretchPieces {
		return nil
	}
	return a.flush(ctx)
}

// want notes that the chunk of an extent is needed, and returns its position.
func (st *stretch) want(x snapshot.Extent) int {
	i, ok := st.index[x.Chunk]
	if !ok {
		i = len(st.refs)
		st.index[x.Chunk] = i
		st.refs = append(st.refs, repo.Ref{ID: x.Chunk, Kind: chunk.Data})
		st.sizes = append(st.sizes, x.ChunkSize)
		st.shared = append(st.shared, false)
		st.bytes += int64(x.ChunkSize)
	}
	if x.Length < uint64(x.ChunkSize) {
		st.shared[i] = true
	}
	return i
}

// flush hands the stretch to the next stage.
func (a *archivist) flush(ctx context.Context) error {
	if len(a.stretch.pieces) == 0 {
		return nil
	}
	st := a.stretch
	a.stretch = newStretch()
	return hand(ctx, a.out, st)
}
