package index

import (
	"iter"
	"os"

	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// ParsePlaintext parses what is sealed in a segment.
var ParsePlaintext = parse

// Plaintext encodes a segment again, the way a builder does, and pads it.
func Plaintext(s *Segment) []byte {
	b := NewBuilder()
	for _, id := range s.Supersedes {
		b.Supersede(id)
	}
	for i, p := range s.Packs {
		b.positions[p.ID] = i
	}
	b.packs = s.Packs
	for e := range s.Entries() {
		b.entries = append(b.entries, e)
	}
	p := b.appendPlaintext(nil)
	return append(p, make([]byte, seal.Padme(len(p))-len(p))...)
}

// CheckFile checks a bbolt file's tree of pages.
func CheckFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return checkFile(f)
}

// Finished lists a segment's packs in the form that AddPack takes.
func Finished(s *Segment) []pack.Finished {
	out := make([]pack.Finished, len(s.Packs))
	for i, p := range s.Packs {
		out[i] = pack.Finished{ID: p.ID, Kind: p.Kind, Size: p.Size}
	}
	for e := range s.Entries() {
		out[e.Pack].Entries = append(out[e.Pack].Entries, e.Entry)
	}
	return out
}

// EntriesBy is Entries that reads n records at a time.
func (l *Local) EntriesBy(n int) iter.Seq2[Located, error] { return l.entries(n) }

// Merging reports whether a merge is under way.
func (l *Local) Merging() (merging bool, err error) {
	err = l.view(func(r *reader) error {
		_, _, merging = r.current.merging()
		return nil
	})
	return merging, err
}
