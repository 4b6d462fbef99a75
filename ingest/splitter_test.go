package ingest_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/snapshot"
)

// even cuts contents into chunks of one size.
type even int

func (e even) Cut(p []byte) int { return min(len(p), int(e)) }

func (e even) Params() chunk.Params { return chunk.ParamsOf(chunk.FastCDC, int(e)) }

// A splitter of one's own cuts large files and streams, and what it cut is read as any
// other.
func TestOwnSplitter(t *testing.T) {
	w := newWorld(t)
	const size = 100_000
	contents := random(1, 10*size+17)
	w.write("large", contents)
	o := w.clean(func(o *ingest.Options) {
		o.Splitter = even(size)
		o.Sources = []ingest.Source{ingest.Stream{Name: "x", Reader: bytes.NewReader(contents)}}
	})
	v := w.view(o.ID)
	for _, path := range []string{w.path("large"), "stdin/x"} {
		v.wantContents(path, contents)
		next := snapshot.Extents(t.Context(), v.repo, v.entry(path))
		var sizes []uint64
		for x, err := next(); err != io.EOF; x, err = next() {
			w.must(err)
			sizes = append(sizes, x.Length)
		}
		if len(sizes) != 11 || sizes[0] != size || sizes[10] != 17 {
			t.Errorf("%s is in chunks of %v bytes", path, sizes)
		}
	}
}
