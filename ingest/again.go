package ingest

import (
	"fmt"
	"slices"
)

// rewind makes the sources ready to be read once more, or says why they can't be. Paths
// always can. A command may have effects besides its output, so it is for the user to run
// it twice.
func (o *Options) rewind() error {
	for _, s := range o.Streams {
		if s.Reader == nil {
			return fmt.Errorf("the command for %q may have other effects too, and is not run twice", s.Name)
		}
	}
	if len(o.Streams) > 0 {
		return fmt.Errorf("stream %q can be read only once", o.Streams[0].Name)
	}
	for _, t := range o.Tars {
		if t.Again == nil {
			return fmt.Errorf("archive %q can be read only once", t.Name)
		}
	}
	o.Tars = slices.Clone(o.Tars)
	for i := range o.Tars {
		t := &o.Tars[i]
		r, err := t.Again()
		if err != nil {
			return fmt.Errorf("read archive %q again: %w", t.Name, err)
		}
		t.Reader = r
	}
	return nil
}
