package repo

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"sync"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// sample chooses the packs to read, in an order that is random unless all are
// read.
func (c *checker) sample() ([]backend.Info, error) {
	var packs []backend.Info
	for _, info := range c.packs { // maps have no order, but that is not random enough
		packs = append(packs, info)
	}
	for i := len(packs) - 1; i > 0; i-- {
		var b [8]byte
		if _, err := io.ReadFull(c.Repository.opts.Random, b[:]); err != nil {
			return nil, fmt.Errorf("read random bytes: %w", err)
		}
		j := int(binary.LittleEndian.Uint64(b[:]) % uint64(i+1))
		packs[i], packs[j] = packs[j], packs[i]
	}
	budget := c.opts.Read.Bytes
	if p := c.opts.Read.Percent; p > 0 {
		budget = int64(p / 100 * float64(c.report.PackBytes))
		if p >= 100 {
			return packs, nil
		}
	}
	for i, info := range packs {
		if budget <= 0 {
			return packs[:i], nil
		}
		budget -= info.Size
	}
	return packs, nil
}

// readPacks reads whole packs: the name, the directory, every frame, every
// chunk's ID, and the padding.
func (c *checker) readPacks(ctx context.Context) error {
	if c.opts.Read == (Sample{}) {
		return nil
	}
	packs, err := c.sample()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.Repository.opts.Goroutines)
	var total int64
	for _, info := range packs {
		total += info.Size
	}
	for _, info := range packs {
		g.Go(func() error {
			bad, err := c.readPack(ctx, info)
			if err != nil && !errors.Is(err, ErrDamage) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			c.report.ReadPacks++
			c.report.ReadBytes += info.Size
			c.progress("bytes of packs", c.report.ReadBytes, total)
			if err == nil {
				return nil
			}
			n := c.problem(info.Name, err)
			for _, id := range bad {
				if ok, err := c.elsewhere(id, info.Name); err != nil {
					return err
				} else if !ok {
					c.report.Problems[n].Chunks = append(c.report.Problems[n].Chunks, id)
					c.lost[id] = n
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// elsewhere reports whether another pack than the named one has a chunk.
func (c *checker) elsewhere(id chunk.ID, name string) (bool, error) {
	places, err := c.places(nil, id)
	if err != nil {
		return false, err
	}
	for _, p := range places {
		if _, ok := c.packs[p.Pack]; ok && packName(p.PackKind, p.Pack) != name {
			return true, nil
		}
	}
	return false, nil
}

// readPack reads a pack from its beginning to its end. If it is damaged, it
// returns the chunks that can't be had from it.
func (c *checker) readPack(ctx context.Context, info backend.Info) (bad []chunk.ID, err error) {
	r := c.Repository
	id, err := pack.ParseID(path.Base(info.Name))
	if err != nil {
		return nil, damaged(info.Name, err)
	}
	entries, dirErr := r.readDirectory(ctx, info)
	if dirErr != nil {
		if !errors.Is(dirErr, ErrDamage) {
			return nil, dirErr
		}
		return c.neededFrom(id), dirErr
	}
	key, keyErr := r.packKey(ctx, id, packKindOf(info.Name))
	if keyErr != nil && !errors.Is(keyErr, ErrDamage) {
		return nil, keyErr
	}
	if keyErr != nil {
		for _, e := range entries {
			bad = append(bad, e.ID)
		}
		return bad, keyErr
	}
	s, err := r.scan(ctx, info, id, key, entries)
	if err != nil {
		return nil, err
	}
	return s.bad, s.err
}

// neededFrom returns the chunks of the snapshots that only a pack with a
// damaged directory has, according to the index.
func (c *checker) neededFrom(id pack.ID) []chunk.ID {
	var bad []chunk.ID
	for chunkID := range c.data {
		places, err := c.places(nil, chunkID)
		if err == nil && len(places) == 1 && places[0].Pack == id {
			bad = append(bad, chunkID)
		}
	}
	return bad
}

// scanned is what scan found wrong.
type scanned struct {
	bad []chunk.ID
	err error
}

// scan reads a pack once and checks its hash and each of its frames.
func (r *Repository) scan(ctx context.Context, info backend.Info, id pack.ID, key *pack.Key, entries []pack.Entry) (s scanned, err error) {
	object, err := r.storage.Open(ctx, info.Name)
	if err != nil {
		return s, readError(info.Name, err)
	}
	defer object.Close()
	sum := blake3.New()
	in := io.TeeReader(bufio.NewReaderSize(object, 1<<20), sum)
	b := bufferPool.Get().(*buffers)
	defer bufferPool.Put(b)
	at := int64(0)
	// take reads the next bytes; a cut-off pack is damage, not an error.
	take := func(n int64) ([]byte, bool) {
		b.span = grow(b.span, int(n))
		m, rerr := io.ReadFull(in, b.span)
		at += int64(m)
		switch {
		case rerr == nil:
			return b.span, true
		case errors.Is(rerr, io.EOF) || errors.Is(rerr, io.ErrUnexpectedEOF):
			s.err = errors.Join(s.err, damaged(info.Name, errors.New("the pack is cut off")))
		default:
			err = fmt.Errorf("read: %w", rerr)
		}
		return nil, false
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return s, ctx.Err()
		}
		if gap := int64(e.Offset) - at; gap > 0 {
			if _, ok := take(gap); !ok && err != nil {
				return s, err
			}
		}
		frame, ok := take(int64(e.Stored))
		if err != nil {
			return s, err
		}
		var bad error
		if ok {
			_, bad = r.openFrame(key, frame, e, b)
		}
		if !ok || bad != nil {
			s.bad = append(s.bad, e.ID)
			s.err = errors.Join(s.err, bad)
		}
	}
	if _, cerr := io.Copy(io.Discard, in); cerr != nil && !errors.Is(cerr, io.ErrUnexpectedEOF) {
		return s, fmt.Errorf("read: %w", cerr)
	}
	var got pack.ID
	sum.Sum(got[:0])
	if got != id {
		s.err = errors.Join(s.err, fmt.Errorf("object is %w: its contents hash to %s", seal.ErrDamaged, got.Short()))
	}
	if s.err != nil {
		s.err = damaged(info.Name, s.err)
	}
	return s, nil
}

// fileFinder looks for the files that need damaged chunks.
type fileFinder struct {
	*checker
	snapshot *Snapshot
	tree     snapshot.Tree
	ctx      context.Context
	found    map[fileProblem]bool
	lists    map[list][]int // that were visited -> problems below
}

// list is all that says what a file's list is.
type list struct {
	snapshot.ListRef
	size uint64
}

type fileProblem struct {
	problem int
	path    string
}

// findFiles says for each damaged chunk which files of which snapshots need
// it. It walks all trees again, and only if there is something to look for.
func (c *checker) findFiles(ctx context.Context) error {
	if len(c.lost) == 0 {
		return nil
	}
	f := &fileFinder{checker: c, ctx: ctx, found: make(map[fileProblem]bool), lists: make(map[list][]int)}
	for _, info := range c.set.Newest() {
		if info.Body == nil {
			continue
		}
		f.snapshot = info
		f.tree = snapshot.Tree{Root: info.Body.Root, Source: storedNodes{c.Repository}}
		if err := snapshot.Visit(ctx, f.tree, f); err != nil {
			return err
		}
	}
	return nil
}

// Enter implements snapshot.Visitor: shared nodes of trees are visited again,
// since their files belong to several snapshots. A list is the same in each file
// that has it: what is wrong with it is known after the first.
func (f *fileFinder) Enter(n snapshot.Mention, e *snapshot.Entry) bool {
	if e == nil || n.ID != e.List.Root {
		return true
	}
	of := list{*e.List, e.Size}
	problems, seen := f.lists[of]
	for _, p := range problems {
		f.add(p, e.Key.Path())
	}
	if !seen {
		f.lists[of] = nil
	}
	return !seen
}

// in notes that a file has a problem.
func (f *fileFinder) in(problem int, e *snapshot.Entry) {
	if e.List != nil {
		of := list{*e.List, e.Size}
		if !slices.Contains(f.lists[of], problem) {
			f.lists[of] = append(f.lists[of], problem)
		}
	}
	f.add(problem, e.Key.Path())
}

// Extent implements snapshot.Visitor.
func (f *fileFinder) Extent(e *snapshot.Entry, x snapshot.Extent) error {
	if n, ok := f.lost[x.Chunk]; ok {
		f.in(n, e)
	}
	return nil
}

// Bad implements snapshot.Visitor.
func (f *fileFinder) Bad(id chunk.ID, e *snapshot.Entry, err error) error {
	if !errors.Is(err, ErrDamage) && !errors.Is(err, seal.ErrDamaged) {
		return err
	}
	n, ok := f.lost[id]
	switch {
	case ok && e != nil:
		f.in(n, e)
	case ok:
		f.add(n, "(a part of the tree: all entries in node "+id.Short()+")")
	}
	return nil
}

// add notes a file, once for each problem.
func (f *fileFinder) add(problem int, path string) {
	key := fileProblem{problem, path}
	p := &f.report.Problems[problem]
	if f.found[key] {
		return
	}
	f.found[key] = true
	if len(p.Files) == maxFiles {
		p.MoreFiles++
		return
	}
	p.Files = append(p.Files, DamagedFile{Snapshot: f.snapshot.ID, Path: path})
}
