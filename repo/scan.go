package repo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/zeebo/blake3"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// scanned is what was found in a pack.
type scanned struct {
	entries []pack.Entry // of the directory
	bad     []Ref        // can't be had from the pack
	err     error        // what is wrong, nil if nothing

	baseless []baseless // deltas that could not be tried
}

// maxBad is of how many frames of a pack the error tells.
const maxBad = 3

// failed tells damage from an error that says nothing about the pack.
func (s scanned) failed(err error) (scanned, error) {
	if !errors.Is(err, ErrDamage) {
		return s, err
	}
	s.err = err
	return s, nil
}

// spoiled notes a chunk that can't be had.
func (s *scanned) spoiled(e pack.Entry, err error) {
	s.bad = append(s.bad, Ref{e.ID, e.Kind})
	if len(s.bad) <= maxBad {
		s.err = errors.Join(s.err, err)
	}
}

func chunksOf(entries []pack.Entry) []Ref {
	refs := make([]Ref, len(entries))
	for i, e := range entries {
		refs[i] = Ref{e.ID, e.Kind}
	}
	return refs
}

// readPack reads a pack from its beginning to its end. What is wrong is in the
// result; the error says that the pack could not be looked at.
func (r *Repository) readPack(ctx context.Context, info backend.Info) (s scanned, err error) {
	if s.entries, err = r.readDirectory(ctx, info); err != nil {
		return s.failed(err)
	}
	return r.scan(ctx, info, s.entries, nil)
}

// scan reads a pack once and checks its hash and each of the frames that entries
// name, which are in the order of their offsets. It hands those that are good to good, unless
// that is nil: deltas later than others, when their bases have been read.
func (r *Repository) scan(ctx context.Context, info backend.Info, entries []pack.Entry, good goodFrame) (scanned, error) {
	s := scanned{entries: entries}
	id, err := pack.ParseID(path.Base(info.Name))
	if err != nil {
		return s.failed(damaged(info.Name, err))
	}
	key, err := r.packKey(ctx, id, packKindOf(info.Name))
	if err != nil {
		s.bad = chunksOf(entries)
		return s.failed(err)
	}
	object, err := r.storage.Open(ctx, info.Name)
	if err != nil {
		s.bad = chunksOf(entries)
		return s.failed(readError(info.Name, err))
	}
	defer object.Close()
	sum := blake3.New()
	// A storage that never ends an object must not keep a reader for ever.
	bounded := io.LimitReader(object, min(info.Size, pack.MaxSize)+1)
	in := frameReader{in: io.TeeReader(bufio.NewReaderSize(bounded, 1<<20), sum)}
	b := bufferPool.Get().(*buffers)
	defer bufferPool.Put(b)
	scan := &packScan{Repository: r, key: key, good: good, found: s, buf: b}
	if err := scan.frames(ctx, info.Name, &in); err != nil {
		return scan.found, err
	}
	s = scan.found
	if _, err := io.Copy(io.Discard, in.in); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return s, fmt.Errorf("read: %w", err)
	}
	var got pack.ID
	if sum.Sum(got[:0]); got != id {
		s.err = errors.Join(s.err, fmt.Errorf("object is %w: its contents hash to %s", seal.ErrDamaged, got.Short()))
	}
	if s.err != nil {
		s.err = damaged(info.Name, s.err)
	}
	return s, nil
}

// frames looks at all frames.
func (s *packScan) frames(ctx context.Context, name string, in *frameReader) error {
	for _, e := range s.found.entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.buf.span = grow(s.buf.span, int(e.Stored))
		err := in.frame(s.buf.span, e)
		if errors.Is(err, errBehind) {
			if err = s.storage.ReadAt(ctx, name, s.buf.span, int64(e.Offset)); err != nil {
				err = readError(name, err)
			}
		}
		switch {
		case err == nil:
			err = s.frame(ctx, e, s.buf.span)
		case errors.Is(err, errCutOff), errors.Is(err, ErrDamage):
			s.found.spoiled(e, err)
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return s.flush(ctx)
}

var (
	errCutOff = errors.New("the pack is cut off")
	// errBehind: the frame begins before the end of the one before. No directory has
	// such frames, but segments may say anything of a pack whose directory is lost.
	errBehind = errors.New("the frame was passed")
)

// frameReader reads frames from a stream of a pack.
type frameReader struct {
	in io.Reader
	at int64
}

// frame reads the frame of an entry. The error is errCutOff if the pack ends before
// the frame does, errBehind if the frame has been passed.
func (f *frameReader) frame(p []byte, e pack.Entry) error {
	if f.at > int64(e.Offset) {
		return errBehind
	}
	n, err := io.CopyN(io.Discard, f.in, int64(e.Offset)-f.at)
	f.at += n
	if err == nil {
		n, rerr := io.ReadFull(f.in, p)
		f.at += int64(n)
		err = rerr
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("frame of chunk %s: %w", e.ID.Short(), errCutOff)
	}
	return fmt.Errorf("read: %w", err)
}
