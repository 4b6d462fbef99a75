package restore

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// firstName is the first restored name of a file with several, of whatever type. That
// one gets the contents.
type firstName struct {
	place    place
	contents contentsID
	out      *outcome
}

// contentsID tells whether two names of a file are of the same contents.
type contentsID struct {
	typ    snapshot.Type
	size   uint64
	hash   [16]byte
	target string // of a symbolic link
	device uint64
}

func contentsOf(e *snapshot.Entry) contentsID {
	return contentsID{e.Type, e.Size, e.Hash, string(e.Target), e.Device}
}

// first notes an entry that others may become links to. One that is Kept is not: its
// contents are others.
func (s *session) first(e *snapshot.Entry, p place, out *outcome, a Action) {
	if !e.HasLink || a == Kept {
		return
	}
	if _, ok := s.links[e.Link]; !ok {
		s.links[e.Link] = &firstName{place: p, contents: contentsOf(e), out: out}
	}
}

// isFurther reports whether an entry is a further name of a file that was met. (Names
// of one file that the snapshot has with different contents, as it changed in
// between, are restored as two files: contents count more than links.)
func (s *session) isFurther(e *snapshot.Entry) bool {
	f := s.links[e.Link]
	return e.HasLink && f != nil && f.contents == contentsOf(e)
}

// hardLinks is the second pass.
func (s *session) hardLinks(ctx context.Context) error {
	if !s.linked {
		return nil
	}
	return s.sel.walk(ctx, &linker{session: s})
}

type linker struct {
	*session
}

func (l *linker) enter(ctx context.Context, d, parent *directory) (skip bool, err error) {
	out := l.outcomes.at(d.number)
	// Directories of this run have been filled since, so each name is looked at.
	d.state = dirState{fresh: l.o.DryRun && (l.stateOf(parent).fresh || out.get() != Unchanged)}
	return out.get() == Failed, nil
}

func (l *linker) leave(context.Context, *directory, *directory) error { return nil }

func (l *linker) item(ctx context.Context, e *snapshot.Entry, number int, parent *directory) error {
	out := l.outcomes.at(number)
	if out.get() != Linked {
		return nil
	}
	l.o.Observer.Progress.BytesDone.Add(int64(e.Size))
	first := l.links[e.Link]
	switch first.out.get() {
	case Damaged:
		l.damaged(e, out, fmt.Errorf("its contents are those of another name that is damaged, %s", l.path(first.place)))
		return nil
	case Failed:
		return l.fail(e, out, fmt.Errorf("it is a further name of a file that could not be restored, %s", l.path(first.place)))
	}
	err := l.link(e, out, first, l.stateOf(parent))
	return l.fail(e, out, err)
}

// path shows a place to people.
func (s *session) path(p place) string {
	if p == "" {
		return s.o.Target
	}
	return s.o.Target + "/" + snapshot.Key(p).Path()
}

// link makes an entry a name of the file at first.
func (l *linker) link(e *snapshot.Entry, out *outcome, first *firstName, in dirState) error {
	p := l.sel.place(e.Key)
	action, st, err := l.decide(p, e, in)
	if err != nil {
		return err
	}
	if action == Kept {
		l.done(e, out, Kept)
		return nil
	}
	if action != Created {
		if linked, err := l.isLinked(first, st); err != nil {
			return err
		} else if linked {
			l.done(e, out, Unchanged)
			return nil
		}
	}
	if err := l.makeLink(e, p, first, action, st); err != nil {
		return err
	}
	if action != Created {
		l.count.Replaced.Add(1)
	}
	l.done(e, out, Linked)
	return nil
}

// isLinked reports whether what st describes is the file at first already.
func (l *linker) isLinked(first *firstName, st fsmeta.Stat) (bool, error) {
	if a := first.out.get(); l.o.DryRun && a != Unchanged && a != Updated {
		return false, nil // that will be another one
	}
	above, name := first.place.split()
	d, err := l.dirs.get(above)
	if err != nil {
		return false, err
	}
	defer l.dirs.release(d)
	is, err := d.Stat(name)
	return is.Dev == st.Dev && is.Ino == st.Ino, err
}

// makeLink makes the link, or in a dry run finds out whether it could.
func (l *linker) makeLink(e *snapshot.Entry, p place, first *firstName, action Action, st fsmeta.Stat) error {
	if action == Created && l.o.DryRun {
		return nil
	}
	toDir, name := p.split()
	to, err := l.dirs.get(toDir)
	if err != nil {
		return err
	}
	defer l.dirs.release(to)
	if action != Created && st.IsDir() {
		if err := l.clear(to, e, name); err != nil {
			return err
		}
	}
	if l.o.DryRun {
		return nil
	}
	fromDir, oldName := first.place.split()
	from, err := l.dirs.get(fromDir)
	if err != nil {
		return err
	}
	defer l.dirs.release(from)
	if action == Created {
		return l.linkOrCopy(from, to, oldName, name, e)
	}
	temp := l.temp.next()
	if err := l.linkOrCopy(from, to, oldName, temp, e); err != nil {
		return err
	}
	if err := to.Rename(to.Dir, temp, name); err != nil {
		return errors.Join(err, to.Remove(temp))
	}
	return nil
}

// linkOrCopy makes a hard link, and where the file system can't have one, or not
// one more, a copy.
func (l *linker) linkOrCopy(from, to *dir, oldName, name string, e *snapshot.Entry) error {
	err := to.Link(from.Dir, oldName, name)
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EMLINK), errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENOTSUP):
		l.warn(e.Key.Path(), fmt.Errorf("copied instead of linked to %s: %w", oldName, err))
		if e.Type != snapshot.File {
			return l.makeSpecial(to, name, e, true)
		}
		return l.copy(from, to, oldName, name, e)
	}
	return appeared(err)
}

func (l *linker) copy(from, to *dir, oldName, name string, e *snapshot.Entry) error {
	src, _, err := fsmeta.OpenAt(from.Fd(), oldName)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, temp, err := l.temp.create(to.Fd())
	if err != nil {
		return err
	}
	if err = copySparse(dst, src, e.Size); err == nil {
		l.metaProblems(e, fsmeta.ApplyFd(dst, l.owners.meta(e), l.applyOptions(true)))
		err = publish(to, temp, name, Created)
	}
	if err = errors.Join(err, unix.Close(dst)); err != nil {
		return errors.Join(err, to.Remove(temp))
	}
	return nil
}
