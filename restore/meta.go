package restore

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// owners translates owners of the snapshot to those of this machine.
type owners struct {
	root  bool // they can be set
	names *fsmeta.Owners
}

func newOwners(root bool) owners { return owners{root: root, names: fsmeta.NewOwners()} }

// meta returns the metadata that an entry is to have here. A user or group goes
// by its name if there is one of that name here, and else by its number. (That is
// what tar does, for the same reason: on another machine the number may be somebody
// else's.)
func (o owners) meta(e *snapshot.Entry) fsmeta.Meta {
	m := fsmeta.Meta{Mode: typeBits(e.Type) | e.Mode, UID: e.UID, GID: e.GID, Mtime: fsmeta.Time(e.Mtime)}
	if o.root {
		if id, ok := o.names.UID(e.User); ok {
			m.UID = id
		}
		if id, ok := o.names.GID(e.Group); ok {
			m.GID = id
		}
	}
	for _, x := range e.Xattrs {
		m.Xattrs = append(m.Xattrs, fsmeta.Xattr{Name: x.Name, Value: x.Value})
	}
	return m
}

// applyOptions returns how to set metadata. exact: what is there may have
// extended attributes that are not the entry's.
func (s *session) applyOptions(exact bool) fsmeta.ApplyOptions {
	return fsmeta.ApplyOptions{NoOwner: !s.owners.root, ExactXattrs: exact}
}

// metaProblems reports what metadata could not be set. What this user or this file
// system can't have is a warning.
func (s *session) metaProblems(e *snapshot.Entry, errs []error) {
	for _, err := range errs {
		var x *fsmeta.XattrError
		isXattr := errors.As(err, &x)
		switch {
		case isXattr && errors.Is(err, unix.ENOTSUP),
			isXattr && errors.Is(err, unix.EPERM) && !s.owners.root && !strings.HasPrefix(x.Name, "user."):
			s.warn(e.Key.Path(), err)
		default:
			s.problem(e.Key.Path(), err)
		}
	}
}
