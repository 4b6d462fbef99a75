package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/cairn-backup/cairn/internal/fsmeta"
)

var errProtected = errors.New("it is the repository itself, which is left as it is: its snapshots can't be put back from themselves; exclude it")

// protected are the directories of Options.Protect, by what they are and not by their
// names, of which they may have many.
type protected struct {
	ids []fileID
	// inside: one of them is in the target, so that nothing there may be
	// removed unseen. (What is mounted there is not removed in any case.)
	inside bool
}

type fileID struct{ dev, ino uint64 }

// protect looks at the options. It refuses a target that is protected or in a directory
// that is.
func protect(o *Options) (protected, error) {
	var p protected
	for _, path := range o.Protect {
		id, err := identify(path)
		if err != nil {
			return p, fmt.Errorf("find out what to protect: %w", err)
		}
		p.ids = append(p.ids, id)
	}
	if len(p.ids) == 0 {
		return p, nil
	}
	target := o.Target
	id, err := identify(target)
	exists := err == nil
	for errors.Is(err, fs.ErrNotExist) && filepath.Dir(target) != target {
		target = filepath.Dir(target) // it will be made in there
		id, err = identify(target)
	}
	if err != nil {
		return p, nil // for openTarget to say
	}
	if isIn(target, p.ids) {
		return p, fmt.Errorf("target %s is in the repository that is restored from, and would spoil it; choose another", o.Target)
	}
	for _, path := range o.Protect {
		p.inside = p.inside || exists && isIn(path, []fileID{id})
	}
	return p, nil
}

// isIn reports whether what is at path, which exists, is one of dirs or in one. It goes up as
// the kernel sees it, since a path may lead through links, and as far as the user has the
// right to.
func isIn(path string, dirs []fileID) bool {
	var below fileID
	id, err := identify(path)
	for err == nil && id != below {
		if slices.Contains(dirs, id) {
			return true
		}
		below = id
		path += "/.."
		id, err = identify(path)
	}
	return false
}

func identify(path string) (fileID, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fileID{}, err
	}
	st := info.Sys().(*syscall.Stat_t)
	return fileID{uint64(st.Dev), st.Ino}, nil
}

func (p *protected) has(st fsmeta.Stat) bool {
	return slices.Contains(p.ids, fileID{st.Dev, st.Ino})
}
