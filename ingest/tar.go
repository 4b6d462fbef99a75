package ingest

import (
	"context"
	"fmt"
	"io"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// Tar is a source that becomes a tree: a tar archive as it comes, perhaps compressed
// with gzip, zstd or bzip2.
type Tar struct {
	// Name is that of the directory with the archive's contents; it may have several
	// components.
	Name string
	// Reader delivers the archive. It may still be read from when Snapshot has returned
	// because its context was done.
	Reader io.Reader
	// Again returns a reader that delivers the archive once more, from its beginning. Nil
	// if that can't be.
	Again func() (io.Reader, error)
}

// Place says that an archive is at tar/NAME.
func (t *Tar) Place() (kind, name string) { return tarSource, t.Name }

// Rewind makes use of Again.
func (t *Tar) Rewind() error {
	if t.Again == nil {
		return fmt.Errorf("archive %q can be read only once", t.Name)
	}
	r, err := t.Again()
	if err != nil {
		return fmt.Errorf("read archive %q again: %w", t.Name, err)
	}
	t.Reader = r
	return nil
}

// Capture delivers the members of the archive. Their contents are read at once: an archive can't
// be read in another order.
func (t *Tar) Capture(ctx context.Context, s *Sink) error {
	in := interruptible(ctx, &unpacker{in: t.Reader})
	defer in.Close()
	a := newArchive(in, s.of.key, fsmeta.NewOwners(), s.problem)
	for {
		m, err := a.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := t.take(s, a, m); err != nil {
			return err
		}
	}
}

// take delivers a member.
func (t *Tar) take(s *Sink, a *archive, m *member) error {
	e := m.entry
	switch {
	case s.Excluded(e.Key[len(s.of.key):].Path()[1:], e.Type == snapshot.Directory):
		return nil // the next call of next skips its contents
	case e.Type == 0:
		e.Target = []byte(m.link) // see members.take
	case e.Type == snapshot.File:
		_, err := s.File(e, a)
		return err
	}
	return s.Add(e)
}
