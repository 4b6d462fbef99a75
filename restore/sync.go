package restore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// sync puts all that was restored on the disk: names, deletions and metadata as well as
// contents. One call for each file system costs less than one for each file.
func (s *session) sync() error {
	if err := s.syncAt(""); err != nil { // the target's
		return err
	}
	for _, p := range s.devices {
		if err := s.syncAt(p); err != nil {
			return err
		}
	}
	return nil
}

// syncAt syncs the file system that a directory is on.
func (s *session) syncAt(p place) error {
	d, err := s.dirs.get(p)
	if err != nil {
		return err
	}
	defer s.dirs.release(d)
	err = unix.Syncfs(d.Fd())
	if err == nil || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return fmt.Errorf("sync the target, so that what was restored outlasts a loss of power: %w; restore again", err)
}
