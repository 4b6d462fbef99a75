package ingest

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

const fuzzSource = snapshot.Key("tar\x00x")

// FuzzArchive demands of whatever is taken for a tar that its members can be entries, that
// what is wrong is said, and that nothing without an end is whole. Its seeds in testdata were
// made by GNU tar and bsdtar, in each of their formats.
func FuzzArchive(f *testing.F) {
	f.Add(make([]byte, 1024))
	owners := fsmeta.NewOwners()
	f.Fuzz(func(t *testing.T, p []byte) {
		if readAll(t, &unpacker{in: bytes.NewReader(p)}, owners) != io.EOF {
			return
		}
		// Without the zeros that stand at its end, it has none.
		used := (len(bytes.TrimRight(p, "\x00")) + 511) / 512 * 512
		if used <= len(p) && readAll(t, bytes.NewReader(p[:used]), owners) == io.EOF {
			t.Error("an archive without an end is whole")
		}
	})
}

// What an archive says of its members is in memory until it is in the tree, so a job ends
// when that is much, however few members it is of.
func TestJobsOfLargeEntries(t *testing.T) {
	large := strings.Repeat("x", 1<<20)
	for name, e := range map[string]snapshot.Entry{
		"key":        {Key: snapshot.Key(large)},
		"target":     {Target: []byte(large)},
		"attributes": {Xattrs: []snapshot.Xattr{{Name: "user.a", Value: []byte(large)}}},
		"extents":    {Extents: make([]snapshot.Extent, len(large)/64)},
	} {
		j := new(job)
		for !j.full() {
			j.add(e, New)
		}
		if n := len(j.entries); n > jobCost>>20 {
			t.Errorf("%s: %d entries with a MiB each in one job", name, n)
		}
	}
}

// readAll reads an archive and returns how it ended.
func readAll(t *testing.T, r io.Reader, owners *fsmeta.Owners) error {
	reports := 0
	a := newArchive(r, fuzzSource, owners, func(_ snapshot.Key, err error, _ bool) {
		if reports++; err == nil || err.Error() == "" {
			t.Error("a problem without a reason")
		}
	})
	for {
		before := reports
		m, err := a.next()
		if err != nil {
			return err
		}
		checkMember(t, m, reports > before)
		// Much of it may be holes.
		if _, err := io.CopyN(io.Discard, a, min(int64(m.entry.Size), 1<<20)); err != nil {
			if err == io.EOF {
				t.Errorf("%q has fewer bytes than it says, and that is no error", m.entry.Key)
			}
			return err
		}
	}
}

// checkMember demands that a member can be an entry, or that it was reported.
func checkMember(t *testing.T, m *member, reported bool) {
	e := m.entry
	if e.Key != fuzzSource && !e.Key.IsBelow(fuzzSource) {
		t.Errorf("%q is outside of the archive", e.Key)
	}
	if e.Key == fuzzSource && e.Type != snapshot.Directory {
		t.Errorf("the archive itself is a %s", e.Type)
	}
	if e.Type == 0 {
		if err := m.link.Validate(); err != nil || !m.link.IsBelow(fuzzSource) {
			t.Errorf("%q is a link to %q: %v", e.Key, m.link, err)
		}
		e.Type = snapshot.FIFO // which has no contents either
	}
	if e.Type == snapshot.File {
		e.Size = 0
	}
	if err := e.Validate(); err != nil && !reported {
		t.Error(err)
	}
}
