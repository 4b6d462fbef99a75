package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/zeebo/blake3"

	"github.com/cairn-backup/cairn/internal/extsort"
	"github.com/cairn-backup/cairn/snapshot"
)

// maxLinkRounds bounds how long a chain of hard links to hard links can be. Programs
// make no chains at all: they always link to the first name.
const maxLinkRounds = 64

var (
	errForward  = errors.New("does not stand before it in the archive, or was left out")
	errLinkDir  = errors.New("is a directory")
	errLinkLong = fmt.Errorf("stands at the end of more than %d links", maxLinkRounds)
)

// linkError says why a hard link can't be followed.
type linkError struct {
	to  snapshot.Key
	err error
}

func (e *linkError) Error() string {
	return fmt.Sprintf("is a hard link to %q, which %v", e.to.Path(), e.err)
}
func (e *linkError) Unwrap() error { return e.err }

// followLinks finds out of which entries the hard links are further names. A link
// is to the last member of its target's name that stands before it, which is what
// extraction makes of it. If that is itself a link, another round follows that.
func (m *members) followLinks() error {
	for round := 0; m.links.Len() > 0; round++ {
		next := new(extsort.Sorter)
		err := m.followOnce(next, round == maxLinkRounds)
		if err = errors.Join(err, m.links.Close()); err != nil {
			return errors.Join(err, next.Close())
		}
		m.links = next
	}
	return nil
}

// followOnce joins the links with all members. Links to links go to next, or, if it is
// the last round, nowhere.
func (m *members) followOnce(next *extsort.Sorter, last bool) error {
	all := newFeed(m.all.All())
	defer all.stop()
	var target version
	for r, err := range m.links.All() {
		if err != nil {
			return err
		}
		// The links' places are those of their targets, but with their own numbers.
		for all.ok && bytes.Compare(all.record.Key, r.Key) < 0 {
			target.set(all.record)
			if err := all.next(); err != nil {
				return err
			}
		}
		if err := m.follow(r, &target, next, last); err != nil {
			return err
		}
	}
	return all.err
}

// follow looks at what a link is to.
func (m *members) follow(link extsort.Record, target *version, next *extsort.Sorter, last bool) error {
	to := placeKey(link.Key)
	fail := func(err error) error {
		m.report(snapshot.Key(placeKey(link.Value)), &linkError{snapshot.Key(to), err}, true)
		return nil
	}
	switch {
	case len(target.place) == 0 || !bytes.Equal(placeKey(target.place), to):
		return fail(errForward)
	case target.record[0] == recordLink && last:
		return fail(errLinkLong)
	case target.record[0] == recordLink:
		return next.Add(appendPlace(nil, snapshot.Key(target.record[1:]), target.number()), link.Value)
	}
	e, err := decodeMember(target.record)
	switch {
	case err != nil:
		return err
	case e.Type == snapshot.Directory:
		return fail(errLinkDir)
	}
	group := append([]byte{recordGroup}, target.group()...)
	return errors.Join(m.found.Add(link.Value, target.record), m.found.Add(link.Value, group), m.found.Add(target.place, group))
}

// version is a member among those of the same name.
type version struct {
	place, record []byte
	nth           uint64 // of its name
}

func (v *version) set(r extsort.Record) {
	if len(v.place) > 0 && bytes.Equal(placeKey(v.place), placeKey(r.Key)) {
		v.nth++
	} else {
		v.nth = 0
	}
	v.place = append(v.place[:0], r.Key...)
	v.record = append(v.record[:0], r.Value...)
}

func (v *version) number() uint64 { return binary.BigEndian.Uint64(v.place[len(v.place)-8:]) }

// group is the number that the names of the file have in common in the tree. It is the
// same when the archive is taken again, whatever else is in it by then.
func (v *version) group() []byte {
	sum := blake3.Sum256(binary.BigEndian.AppendUint64(bytes.Clone(placeKey(v.place)), v.nth))
	return sum[:8]
}

// feed is a sequence of records that is read one by one.
type feed struct {
	pull   func() (extsort.Record, error, bool)
	stop   func()
	record extsort.Record
	ok     bool // there is a record
	err    error
}

func newFeed(records iter.Seq2[extsort.Record, error]) *feed {
	f := new(feed)
	f.pull, f.stop = iter.Pull2(records)
	f.next()
	return f
}

func (f *feed) next() error {
	f.record, f.err, f.ok = f.pull()
	f.ok = f.ok && f.err == nil
	return f.err
}
