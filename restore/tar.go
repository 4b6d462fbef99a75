package restore

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// Tar writes files of a snapshot as a tar archive with PAX headers, which GNU tar and
// bsdtar extract alike. Its members have the names that the files would have below the
// target of Directory, and follow each other in the order of the tree. Sparse files come
// out plain. Target, Overwrite, Delete, Verify and Random of the options mean nothing here.
//
// The archive is whole if and only if the error is nil. What could not be had of it is
// in the result then: nodes of the tree that are lost and, with zeros in place of what is
// lost, damaged files, if AllowDamaged is set; and entries that no archive can hold.
// Without AllowDamaged, damage is an error, at once. After an error the archive
// ends such that who extracts it finds it broken, unless the output was what failed.
//
// Memory does not grow with the size of the archive, but for the names of files with hard
// links.
func Tar(ctx context.Context, r *repo.Repository, o Options, w io.Writer) (*Result, error) {
	if o.Observer.Progress == nil {
		o.Observer.Progress = new(Progress)
	}
	if err := r.LoadBody(ctx, o.Snapshot); err != nil {
		return nil, err
	}
	o.Target = "the archive"
	sel, err := newSelection(ctx, r, &o)
	if err != nil {
		return nil, err
	}
	s := &session{o: o, repo: r, sel: sel}
	err = s.tar(ctx, w)
	return s.result(), err
}

// tar runs the stages: a walk makes stretches of the archive, the chunks of each are read
// at once, and what is read is written, all side by side and in order.
func (s *session) tar(ctx context.Context, w io.Writer) error {
	out := bufio.NewWriterSize(w, 256<<10)
	t := &tarWriter{session: s, out: out, tar: tar.NewWriter(out)}
	g, ctx := errgroup.WithContext(ctx)
	walked, read := make(chan *stretch), make(chan *stretch)
	g.Go(func() error {
		defer close(walked)
		return newArchivist(s, walked).run(ctx)
	})
	g.Go(func() error {
		defer close(read)
		c := newChunkReader(s)
		for st := range walked {
			if err := c.load(ctx, st); err != nil {
				return err
			}
			if err := hand(ctx, read, st); err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() error {
		for st := range read {
			if err := t.write(ctx, st); err != nil {
				return err
			}
		}
		return ctx.Err() // a queue is closed also when its filler failed
	})
	err := g.Wait()
	if s.o.DryRun {
		return err
	}
	if err != nil {
		return errors.Join(err, t.breakOff())
	}
	return t.close()
}

// hand sends to the next stage unless the run is stopped meanwhile.
func hand[T any](ctx context.Context, to chan<- T, v T) error {
	select {
	case to <- v:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tarWriter is the last stage.
type tarWriter struct {
	*session
	out    *bufio.Writer
	tar    *tar.Writer
	failed error // of the output
}

var zeros [64 << 10]byte

// write writes a stretch.
func (t *tarWriter) write(ctx context.Context, st *stretch) error {
	for i := range st.pieces {
		p := &st.pieces[i]
		if p.begins && !t.o.DryRun {
			if err := t.check(t.tar.WriteHeader(p.of.header)); err != nil {
				return err
			}
		}
		if err := t.contents(ctx, p, st); err != nil {
			return err
		}
		if p.ends {
			t.memberDone(p.of)
		}
	}
	return nil
}

// contents writes the contents of a piece, or zeros for what is lost.
func (t *tarWriter) contents(ctx context.Context, p *piece, st *stretch) error {
	if t.o.DryRun || p.extent.Length == 0 {
		return nil
	}
	t.o.Observer.Progress.BytesDone.Add(int64(p.extent.Length))
	err := p.lost
	if err == nil && !p.extent.IsHole() {
		part := part{offset: p.extent.Offset, length: p.extent.Length}
		var contents []byte
		if contents, err = part.cut(st.chunks[p.chunk].plain, st.chunks[p.chunk].err); err == nil {
			_, err := t.tar.Write(contents)
			return t.check(err)
		}
	}
	if err != nil {
		if !t.o.AllowDamaged {
			return fmt.Errorf("%s can't be had whole, so the archive ends there: %w; to get what is left, allow damaged files", p.of.path, err)
		}
		p.of.lose(err)
	}
	for left := p.extent.Length; left > 0; {
		if err := ctx.Err(); err != nil { // there may be more of them than anybody waits for
			return err
		}
		n := min(left, uint64(len(zeros)))
		if _, err := t.tar.Write(zeros[:n]); err != nil {
			return t.check(err)
		}
		left -= n
	}
	return nil
}

// check notes an error of the output.
func (t *tarWriter) check(err error) error {
	if err != nil && t.failed == nil {
		t.failed = err
		err = fmt.Errorf("write archive: %w", err)
	}
	return err
}

// memberDone counts a member.
func (t *tarWriter) memberDone(m *outgoing) {
	action := Created
	switch {
	case m.lost != nil:
		action = Damaged
		t.count.Damaged.Add(1)
		if t.o.Observer.Problem != nil {
			t.o.Observer.Problem(m.path, fmt.Errorf("%w; there are zeros for what is lost", m.lost))
		}
	case m.header.Typeflag == tar.TypeLink:
		action = Linked
		t.count.Links.Add(1)
	default:
		t.count.kind(m.kind).Add(1)
	}
	t.count.Bytes.Add(m.header.Size)
	if m.kind != snapshot.Directory {
		t.o.Observer.Progress.FilesDone.Add(1)
	}
	if t.o.Observer.Entry != nil {
		t.o.Observer.Entry(m.path, action)
	}
}

// close ends the archive.
func (t *tarWriter) close() error {
	err := t.tar.Close()
	if err == nil {
		err = t.out.Flush()
	}
	return t.check(err)
}

// brokenOff takes the place of a header.
const brokenOff = "cairn: THIS ARCHIVE IS NOT COMPLETE. The restore that wrote it failed.\n"

// breakOff ends an archive that is not whole. In the middle of a member it just ends, which
// every program notices. Between two members many take that for the end, so
// there comes something that is no header.
func (t *tarWriter) breakOff() error {
	if t.failed != nil {
		return nil
	}
	if t.tar.Flush() == nil {
		block := brokenOff + strings.Repeat("\n", 512-len(brokenOff))
		if _, err := t.out.WriteString(block); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
	}
	if err := t.out.Flush(); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}
