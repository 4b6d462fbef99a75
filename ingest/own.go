package ingest

import (
	"fmt"
	"os"
	"syscall"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// ownDir is the directory that the repository is in, by what it is and not by its names,
// of which it may have many. Zero if there is none.
type ownDir struct {
	id    fileID
	known bool
}

// identify finds out what Options.Repository is.
func identify(dir string) (ownDir, error) {
	if dir == "" {
		return ownDir{}, nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return ownDir{}, fmt.Errorf("find the repository, to leave it out: %w", err)
	}
	st := info.Sys().(*syscall.Stat_t)
	return ownDir{fileID{uint64(st.Dev), st.Ino}, true}, nil
}

func (o *ownDir) is(st fsmeta.Stat) bool { return o.known && o.id == fileID{st.Dev, st.Ino} }

// skipOwn takes nothing of what is in the repository's own directory: the snapshot would
// take in what it writes, and the next one that again.
func (w *walker) skipOwn(key snapshot.Key, t *target) error {
	if t != nil {
		return fmt.Errorf("source %s: it is the repository itself, and can't be backed up into itself, nor can anything in it; "+
			"leave it out, or use another repository", key.Path())
	}
	w.report(key, errOwnDir, false)
	return nil
}
