package ingest_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/cairn-backup/cairn/snapshot"
)

// A bundle may be full when a file with several names comes: it goes into the next job, and what is to be
// done for its names with it.
func TestLinksAtEndsOfBundles(t *testing.T) {
	w := newWorld(t)
	const files = 3000
	for i := range files {
		name := fmt.Sprintf("a/%04d", i)
		w.write(name, random(uint64(i), 4000))
		if i == 0 {
			w.must(os.Mkdir(w.path("b"), 0o755))
		}
		w.must(os.Link(w.path(name), w.path("b"+name[1:])))
	}
	o := w.clean()
	v := w.view(o.ID)
	v.compare(w.src)
	groups := make(map[uint64]int)
	for path, e := range v.entries {
		if e.Type == snapshot.File {
			if !e.HasLink {
				t.Fatalf("%s has no other name", path)
			}
			groups[e.Link]++
		}
	}
	if len(groups) != files {
		t.Errorf("%d files, want %d", len(groups), files)
	}
}
