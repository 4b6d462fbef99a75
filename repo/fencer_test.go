package repo_test

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
)

// fencer is a storage that spoils the end of a run.
type fencer struct {
	*mem.Mem
	end         func(name string) // called before an end is put
	loseEnd     bool              // the answer to its first Put is lost
	noSnapshots bool              // no manifest can be put
}

var errSpoiled = errors.New("spoiled by the test")

func (f *fencer) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	isEnd := strings.HasPrefix(name, "leases/") && strings.HasSuffix(name, "/end")
	if f.end != nil && isEnd {
		f.end(name)
	}
	if f.noSnapshots && strings.HasPrefix(name, "snapshots/") {
		return errSpoiled
	}
	err := f.Mem.Put(ctx, name, body, size)
	if f.loseEnd && isEnd {
		f.loseEnd = false
		return errSpoiled
	}
	return err
}

var _ backend.Full = (*fencer)(nil)
