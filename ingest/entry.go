package ingest

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"strings"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// Reasons for problems.
var (
	errVanished   = errors.New("vanished while the snapshot was made")
	errMissing    = errors.New("does not exist")
	errChanged    = errors.New("changed while it was read; what was read last is in the snapshot")
	errShrank     = errors.New("shrank while it was read; its end may be missing")
	errSocket     = errors.New("is a socket, which cannot be backed up")
	errTooLong    = errors.New("has a path of more than 64 KiB, which a snapshot can't hold")
	errLongName   = errors.New("has a name of more than 255 bytes, which a snapshot can't hold")
	errManyXattrs = errors.New("has more than 1.8 MiB of extended attributes, which a snapshot can't hold; some are missing")
	errMoved      = errors.New("was moved while the snapshot was made")
	errOwnDir     = errors.New("is the repository itself; its contents are left out")
	errNoTarget   = errors.New("is a symbolic link to nothing, which a snapshot can't hold")
)

// entry makes an entry of what stat says. Type and contents are up to the
// caller.
func (w *walker) entry(key snapshot.Key, st fsmeta.Stat) snapshot.Entry {
	return snapshot.Entry{
		Key: key, Mode: st.Perm(), UID: st.UID, GID: st.GID,
		User: w.owners.User(st.UID), Group: w.owners.Group(st.GID),
		Mtime: snapshot.Time(st.Mtime), Ctime: snapshot.Time(st.Ctime), Inode: st.Ino,
	}
}

// tooLong reports why no key can be of so many bytes, and end with a name of so many.
func tooLong(key, name int) error {
	switch {
	case name > snapshot.MaxComponent:
		return errLongName
	case key > snapshot.MaxKey:
		return errTooLong
	}
	return nil
}

// addXattrs gives an entry the attributes that were read, as far as it can hold
// them, and returns what it lacks. An entry that lacks some has no change time, so
// that the next snapshot does not take it over as if nothing were missing.
func addXattrs(e *snapshot.Entry, xs []fsmeta.Xattr, err error) (lacks error) {
	e.Xattrs = nil
	if len(xs) > 0 {
		e.Xattrs = make([]snapshot.Xattr, 0, len(xs))
	}
	room := maxXattrs
	for _, x := range xs {
		if room -= len(x.Name) + len(x.Value) + 8; room < 0 {
			err = errors.Join(err, errManyXattrs)
			break
		}
		e.Xattrs = append(e.Xattrs, snapshot.Xattr{Name: x.Name, Value: x.Value})
	}
	if err != nil {
		e.Ctime = snapshot.Time{}
	}
	return err
}

// maxXattrs is how many bytes of attributes an entry has room for beside its key, its
// target and its extents, counted as in docs/format.md, section 10.
const maxXattrs = snapshot.MaxEntry - 2*snapshot.MaxKey

// report tells the observer of a problem, and counts those that leave a hole
// in the snapshot.
func (p *pipeline) report(key snapshot.Key, err error, fatal bool) {
	if errors.Is(err, fs.ErrNotExist) {
		err = errVanished
	}
	p.problem(key, err, fatal)
}

// problem is report for what is no file of the system.
func (p *pipeline) problem(key snapshot.Key, err error, fatal bool) {
	if fatal {
		p.unreadable.Add(1)
	}
	if p.opts.Observer.Problem != nil {
		p.opts.Observer.Problem(key.Path(), err, fatal)
	}
}

// bundleSeed makes the ends of bundles secret.
func (p *pipeline) bundleSeed() uint64 {
	var out [32]byte
	h := blake3.NewDeriveKey("cairn v1 bundle ends")
	h.Write(p.keys.Chunker[:])
	h.Sum(out[:0])
	return binary.LittleEndian.Uint64(out[:])
}

const cacheTag = "CACHEDIR.TAG"

// isCache reports whether a directory declares itself a cache
// (https://bford.info/cachedir/).
func isCache(dirfd int) bool {
	const signature = "Signature: 8a477f597d28d172789f06886806bc55"
	fd, _, err := fsmeta.OpenAt(dirfd, cacheTag)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	b := make([]byte, len(signature))
	n, err := unix.Pread(fd, b, 0)
	return err == nil && strings.HasPrefix(string(b[:max(n, 0)]), signature)
}
