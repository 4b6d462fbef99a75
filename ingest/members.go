package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/cairn-backup/cairn/internal/extsort"
	"github.com/cairn-backup/cairn/snapshot"
)

// members are the entries of a source on their way into the tree's order. They need the
// memory of a sorter, however many they are.
//
// Records are sorted by place: a key and the number that the member came as. So several
// members of one name stand together, the last of which counts, as it does when an
// archive is extracted.
type members struct {
	*pipeline
	source snapshot.Key
	number uint64
	// onTheWay bounds the jobs between the sink and take: unlike those of files
	// they hold contents.
	onTheWay chan struct{}

	all extsort.Sorter // place -> what the member is
	// links are hard links to be followed: place of what they are to, with the link's own
	// number -> place of the link.
	links *extsort.Sorter
	// found is what following them came to: place of a link -> the entry that it is a
	// further name of; place of such an entry -> the number that its names have in common.
	found extsort.Sorter

	timeless bool // the entries have the times of the run
}

func newMembers(p *pipeline, source snapshot.Key) *members {
	return &members{pipeline: p, source: source, onTheWay: make(chan struct{}, p.inFlight), links: new(extsort.Sorter)}
}

func (m *members) close() error {
	return errors.Join(m.all.Close(), m.links.Close(), m.found.Close())
}

// Kinds of records, their first byte.
const (
	recordEntry = 'e' // then a leaf of one entry
	recordLink  = 'l' // then the key of what it is a link to
	recordGroup = 'g' // then the number of a group of hard links
)

// appendPlace appends the place of a member to b. No component of a key is empty but the first of
// files, so places are in the order of their keys.
func appendPlace(b []byte, key snapshot.Key, number uint64) []byte {
	b = append(append(b, key...), 0, 0)
	return binary.BigEndian.AppendUint64(b, number)
}

// placeKey returns the key of a place.
func placeKey(place []byte) []byte { return place[:len(place)-10] }

// send sends off a job with members, whose entries come to take.
func (m *members) send(j *job) error {
	if err := send(m.ctx, m.onTheWay, struct{}{}); err != nil {
		return err
	}
	j.members = m
	return m.dispatch(j)
}

// take is called by the sequencer with the members of a job in the order in which they came.
// A hard link is an entry without a type, whose target is the key that it is to.
func (m *members) take(entries []snapshot.Entry) error {
	<-m.onTheWay
	var at, record []byte
	for i := range entries {
		e := &entries[i]
		m.number++
		at = appendPlace(at[:0], e.Key, m.number)
		if e.Type == 0 {
			to := appendPlace(nil, snapshot.Key(e.Target), m.number)
			if err := errors.Join(m.links.Add(to, at), m.all.Add(at, append([]byte{recordLink}, e.Target...))); err != nil {
				return err
			}
			continue
		}
		leaf := snapshot.Leaf{Entries: entries[i : i+1]}
		var err error
		if record, err = leaf.Append(append(record[:0], recordEntry)); err != nil {
			m.report(e.Key, fmt.Errorf("can't be kept: %w", err), true)
			continue
		}
		if err := m.all.Add(at, record); err != nil {
			return err
		}
	}
	return nil
}

// wait waits until the sequencer has given all jobs to take. From then on the members
// belong to the caller.
func (m *members) wait() error {
	j := m.newJob()
	j.taken = make(chan struct{})
	taken := j.taken // the job may be used again at once
	if err := m.send(j); err != nil {
		return err
	}
	select {
	case <-taken:
		return nil
	case <-m.ctx.Done():
		return m.ctx.Err()
	}
}

// decodeMember returns the entry of a record, which it shares no memory with.
func decodeMember(record []byte) (snapshot.Entry, error) {
	var leaf snapshot.Leaf
	if err := leaf.Decode(bytes.Clone(record[1:])); err != nil {
		return snapshot.Entry{}, err
	}
	return leaf.Entries[0], nil
}

// intoTree sends the members, sorted, to the tree.
func (m *members) intoTree() error {
	if err := m.followLinks(); err != nil {
		return err
	}
	t := &treeWriter{members: m, job: m.newJob()}
	if err := m.merge(t.add); err != nil {
		return err
	}
	return t.finish()
}

// merge calls add with the last member of each name, in the order of keys.
func (m *members) merge(add func(*snapshot.Entry) error) error {
	found := newFeed(m.found.All())
	defer found.stop()
	var last candidate
	for r, err := range m.all.All() {
		if err != nil {
			return err
		}
		if len(last.place) > 0 && !bytes.Equal(placeKey(last.place), placeKey(r.Key)) {
			if err := last.emit(add); err != nil {
				return err
			}
		}
		last.set(r)
		for found.ok && bytes.Equal(found.record.Key, last.place) {
			last.found(found.record.Value)
			if err := found.next(); err != nil {
				return err
			}
		}
	}
	if found.err != nil {
		return found.err
	}
	return last.emit(add)
}

// candidate is a member that is the last of its name so far.
type candidate struct {
	place  []byte
	record []byte
	group  []byte // the number that the names of one file have in common; empty: it has one name
}

func (c *candidate) set(r extsort.Record) {
	c.place = append(c.place[:0], r.Key...)
	c.record = append(c.record[:0], r.Value...)
	c.group = c.group[:0]
}

// found takes what following the links came to.
func (c *candidate) found(record []byte) {
	if record[0] == recordGroup {
		c.group = append(c.group[:0], record[1:]...)
	} else {
		c.record = append(c.record[:0], record...)
	}
}

func (c *candidate) emit(add func(*snapshot.Entry) error) error {
	if len(c.record) == 0 || c.record[0] == recordLink {
		return nil // there is none, or it leads nowhere, which was reported
	}
	e, err := decodeMember(c.record)
	if err != nil {
		return err
	}
	e.Key = snapshot.Key(placeKey(c.place))
	if len(c.group) > 0 {
		e.HasLink, e.Link = true, binary.LittleEndian.Uint64(c.group)
	}
	return add(&e)
}

// treeWriter sends sorted members to the tree, with the directories that the source
// does not have.
type treeWriter struct {
	*members
	job  *job
	dirs []snapshot.Key // those that the last entry is in, or is
	file snapshot.Key   // the last entry that is no directory
}

var errBelowFile = errors.New("is below something that is no directory there")

func (t *treeWriter) add(e *snapshot.Entry) error {
	if t.file != "" && e.Key.IsBelow(t.file) {
		t.report(e.Key, errBelowFile, true)
		return nil
	}
	if err := t.above(e); err != nil {
		return err
	}
	if e.Type == snapshot.Directory {
		t.dirs = append(t.dirs, e.Key)
	} else {
		t.file = e.Key
	}
	return t.append(e)
}

// above adds the directories that e is in and that are missing. They get owner and times
// of e, as these are the same each time that an archive is taken.
func (t *treeWriter) above(e *snapshot.Entry) error {
	for len(t.dirs) > 0 && !e.Key.IsBelow(t.dirs[len(t.dirs)-1]) {
		t.dirs = t.dirs[:len(t.dirs)-1]
	}
	have := t.source
	if len(t.dirs) > 0 {
		have = t.dirs[len(t.dirs)-1] + "\x00"
	}
	for have != "" && len(have) <= len(e.Key) {
		next := len(e.Key)
		if i := strings.IndexByte(string(e.Key[len(have):]), 0); i >= 0 {
			next = len(have) + i
		}
		if next == len(e.Key) {
			return nil
		}
		dir := snapshot.Entry{
			Key: e.Key[:next], Type: snapshot.Directory, Mode: 0o755, Mtime: e.Mtime, Ctime: e.Ctime,
			UID: e.UID, GID: e.GID, User: e.User, Group: e.Group,
		}
		t.dirs = append(t.dirs, dir.Key)
		if err := t.append(&dir); err != nil {
			return err
		}
		have = dir.Key + "\x00"
	}
	return nil
}

// append puts an entry into the job.
func (t *treeWriter) append(e *snapshot.Entry) error {
	t.job.add(*e, t.compare(e))
	if !t.job.full() {
		return nil
	}
	j := t.job
	t.job = t.newJob()
	return t.dispatch(j)
}

// compare says how an entry relates to the parent snapshot. Where times are those of the run, an entry that
// is otherwise as it was keeps the times it had: so they say since when it is so.
func (t *treeWriter) compare(e *snapshot.Entry) Change {
	o := t.parent.find(t.ctx, e.Key)
	if o == nil {
		return New
	}
	mtime, ctime := e.Mtime, e.Ctime
	if t.timeless {
		e.Mtime, e.Ctime = o.Mtime, o.Ctime
	}
	if snapshot.Compare(o, e) == 0 {
		return Unmodified
	}
	e.Mtime, e.Ctime = mtime, ctime
	return Changed
}

// finish sends off the rest. A source without members is a directory without entries.
func (t *treeWriter) finish() error {
	if len(t.dirs) == 0 && t.file == "" {
		e := snapshot.Entry{Key: t.source, Type: snapshot.Directory, Mode: 0o755, Mtime: t.now(), Ctime: t.now()}
		t.dirs = append(t.dirs, e.Key)
		if err := t.append(&e); err != nil {
			return err
		}
	}
	return t.dispatch(t.job)
}
