package ingest

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/internal/pax"
	"github.com/cairn-backup/cairn/snapshot"
)

// archive reads the members of a tar as entries of a snapshot. What it can't make an
// entry of it reports, and goes on; an archive that is not whole is an error.
type archive struct {
	in      counter
	tar     *tar.Reader
	source  snapshot.Key // where the members go
	owners  pax.Owners
	report  func(key snapshot.Key, err error, fatal bool)
	globals map[string]string // records for all members to come
	members int
	told    map[string]bool // what was reported of the archive as a whole
}

// member is one of the archive. Its contents, if it is a file, are read from the archive.
type member struct {
	entry snapshot.Entry // without contents, but with their size
	// link is of what it is a further name, if entry has no type.
	link snapshot.Key
}

// Reasons for problems.
var (
	errNoName    = errors.New("is a member without a name")
	errUp        = errors.New(`has ".." in its name, which could lead out of the archive`)
	errAbsolute  = errors.New("has members whose names begin with a slash; they are taken without it, as tar does")
	errLinkName  = errors.New("is a hard link to a name that can't be one")
	errOwner     = errors.New("has an owner or group that is no number from 0 to 4294967295")
	errDevice    = errors.New("has a device number that Linux can't have")
	errVolume    = errors.New("is one volume of an archive of several; join them first, as with: tar -xM")
	errUnmarked  = errors.New("ends without the two blocks of zeros that mark the end of a tar, so something may be missing; if it is whole, add them: (cat FILE; head -c 1024 /dev/zero) | cairn snapshot tar:-")
	errGarbage   = errors.New("goes on behind its end; if several archives stand one behind the other, give them one by one")
	errGlobals   = errors.New("has global headers of more than 1 MiB")
	errNoArchive = errors.New("is no tar archive")
	errEmptyFile = errors.New("is empty: not even an empty tar archive")
)

func newArchive(r io.Reader, source snapshot.Key, owners pax.Owners, report func(snapshot.Key, error, bool)) *archive {
	a := &archive{source: source, owners: owners, report: report, globals: make(map[string]string), told: make(map[string]bool)}
	a.in.Reader = bufio.NewReaderSize(r, 256<<10)
	a.tar = tar.NewReader(&a.in)
	return a
}

// Read reads the contents of the last member.
func (a *archive) Read(p []byte) (int, error) {
	n, err := a.tar.Read(p)
	if err != nil && err != io.EOF {
		err = a.broken(err)
	}
	return n, err
}

// next returns the next member, and io.EOF if the archive came to its end and was whole.
func (a *archive) next() (*member, error) {
	for {
		h, err := a.tar.Next()
		switch {
		case err == io.EOF:
			return nil, a.end()
		case err != nil && !errors.Is(err, tar.ErrInsecurePath): // names are looked at below
			return nil, a.broken(err)
		}
		a.members++
		switch h.Typeflag {
		case tar.TypeXGlobalHeader:
			if err := a.global(h.PAXRecords); err != nil {
				return nil, err
			}
			continue
		case 'M':
			return nil, errVolume
		case 'V': // the name of the volume
			continue
		}
		if m := a.member(h); m != nil {
			return m, nil
		}
	}
}

// broken says what an error of the tar reader means.
func (a *archive) broken(err error) error {
	switch {
	case errors.Is(err, tar.ErrHeader) && a.members == 0,
		err == io.ErrUnexpectedEOF && a.in.at < blockSize && !startsHeader(a.in.head[:a.in.at]):
		return errNoArchive
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("is damaged near byte %d: %w", a.in.at, err)
	case errors.Is(err, tar.ErrFieldTooLong):
		return fmt.Errorf("has more than 1 MiB of names and attributes for one member, near byte %d, which cairn does not read", a.in.at)
	case err == io.ErrUnexpectedEOF: // of the tar itself; that of a compression is wrapped
		return fmt.Errorf("is cut off: it ends at byte %d, in the middle of a member", a.in.at)
	}
	return err
}

// end judges how the archive ended: io.EOF if it is whole.
func (a *archive) end() error {
	if a.in.ended {
		if a.in.at == 0 {
			return errEmptyFile
		}
		return errUnmarked
	}
	// Behind the end there is padding. It must be read: a compression's checksum stands
	// behind it, and whoever writes into a pipe should be able to finish.
	buf := make([]byte, 64<<10)
	for {
		n, err := a.in.Read(buf)
		for _, b := range buf[:n] {
			if b != 0 {
				return errGarbage
			}
		}
		if err != nil {
			return err
		}
	}
}

// global takes over the records of a global header.
func (a *archive) global(records map[string]string) error {
	for k, v := range records {
		switch {
		case k == "path" || k == "linkpath" || k == "size" || strings.HasPrefix(k, "GNU.sparse."):
			return fmt.Errorf("has a global header that gives all members one %s", k)
		case v == "":
			delete(a.globals, k)
		default:
			a.globals[k] = v
		}
	}
	size := 0
	for k, v := range a.globals {
		size += len(k) + len(v)
	}
	if size > maxGlobals {
		return errGlobals
	}
	return nil
}

// maxGlobals bounds what an archive can make its reader remember, in bytes. Real ones have
// a hundred.
const maxGlobals = 1 << 20

// member makes a member of a header, nil if that can't be.
func (a *archive) member(h *tar.Header) *member {
	if err := a.inherit(h); err != nil {
		a.report(a.source.Child(h.Name), err, true)
	}
	key, err := a.key(h.Name)
	if err == nil && key == a.source && h.Typeflag != tar.TypeDir && h.Typeflag != 'D' {
		err = errNoName
	}
	if err != nil {
		a.report(a.source.Child(h.Name), err, true)
		return nil
	}
	m := &member{entry: snapshot.Entry{
		Key: key, Mode: uint32(h.Mode) & 0o7777, UID: a.id(key, h.Uid), GID: a.id(key, h.Gid), User: h.Uname, Group: h.Gname,
		Mtime: snapshot.TimeOf(h.ModTime),
	}}
	e := &m.entry
	// What a tar does not say must be the same the next time.
	if e.Ctime = e.Mtime; !h.ChangeTime.IsZero() {
		e.Ctime = snapshot.TimeOf(h.ChangeTime)
	}
	if err := a.byType(m, h); err != nil {
		a.report(key, err, true)
		return nil
	}
	a.attributes(e, h.PAXRecords)
	return m
}

// byType fills in what depends on the member's type.
func (a *archive) byType(m *member, h *tar.Header) (err error) {
	e := &m.entry
	switch h.Typeflag {
	case tar.TypeLink:
		if m.link, err = a.key(h.Linkname); err != nil || m.link == a.source {
			return fmt.Errorf("%w: %q", errLinkName, h.Linkname)
		}
	case tar.TypeSymlink:
		e.Type, e.Target = snapshot.Symlink, []byte(h.Linkname)
		if h.Linkname == "" {
			return errNoTarget
		}
	case tar.TypeChar, tar.TypeBlock:
		e.Type = snapshot.CharDevice
		if h.Typeflag == tar.TypeBlock {
			e.Type = snapshot.BlockDevice
		}
		if h.Devmajor < 0 || h.Devmajor > math.MaxUint32 || h.Devminor < 0 || h.Devminor > math.MaxUint32 {
			return errDevice
		}
		e.Device = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	case tar.TypeDir, 'D': // with a list of names, for GNU tar's incremental archives
		e.Type = snapshot.Directory
	case tar.TypeFifo:
		e.Type = snapshot.FIFO
	default:
		e.Type, e.Size = snapshot.File, uint64(h.Size)
		if !strings.ContainsRune("07S", rune(h.Typeflag)) { // kinds of files
			a.report(e.Key, fmt.Errorf("is of the unknown type %q; it is taken as a file, as POSIX demands", h.Typeflag), false)
		}
	}
	return nil
}

// key returns where a member goes: slashes at the beginning, and components that
// say nothing, are left out.
func (a *archive) key(name string) (snapshot.Key, error) {
	if name == "" {
		return "", errNoName
	}
	if name[0] == '/' {
		a.tell("absolute", errAbsolute)
	}
	key := []byte(a.source)
	for c := range strings.SplitSeq(name, "/") {
		switch {
		case c == "" || c == ".":
			continue
		case c == "..":
			return "", errUp
		}
		key = append(append(key, 0), c...)
		if err := tooLong(len(key), len(c)); err != nil {
			return "", err
		}
	}
	return snapshot.Key(key), snapshot.Key(key).Validate()
}

// id returns the number of a user or group. Old archives have negative ones, for nobody.
func (a *archive) id(key snapshot.Key, id int) uint32 {
	if int64(id) > math.MaxUint32 || int64(id) < math.MinInt32 {
		a.report(key, errOwner, true)
	}
	return uint32(id)
}

// attributes gives an entry its extended attributes.
func (a *archive) attributes(e *snapshot.Entry, records map[string]string) {
	xs, err := pax.Xattrs(records, a.owners)
	if err != nil {
		a.report(e.Key, err, true)
	}
	e.Mode = pax.Mode(e.Mode, xs)
	for _, x := range xs {
		e.Xattrs = append(e.Xattrs, snapshot.Xattr{Name: x.Name, Value: x.Value})
	}
	for k := range records {
		if !pax.IsKnown(k) {
			a.tell(k, fmt.Errorf("has members with records %q, which a snapshot can't keep", k))
		}
	}
}

// maxTold bounds what is reported of an archive as a whole.
const maxTold = 20

// tell reports something of the archive as a whole, once.
func (a *archive) tell(what string, err error) {
	if !a.told[what] && len(a.told) < maxTold {
		a.told[what] = true
		a.report(a.source, err, false)
	}
}

// inherit adds the global records to those of a member, which count more. The tar reader
// leaves them to its caller.
func (a *archive) inherit(h *tar.Header) error {
	if len(a.globals) == 0 {
		return nil
	}
	own := h.PAXRecords
	h.PAXRecords = maps.Clone(a.globals)
	maps.Copy(h.PAXRecords, own)
	var errs []error
	for k, v := range a.globals {
		if _, ok := own[k]; ok {
			continue
		}
		if err := setField(h, k, v); err != nil {
			errs = append(errs, fmt.Errorf("global record %s: %w", k, err))
		}
	}
	return errors.Join(errs...)
}

// setField sets the field of a header that a record is of, if it is of one.
func setField(h *tar.Header, k, v string) (err error) {
	switch k {
	case "uname":
		h.Uname = v
	case "gname":
		h.Gname = v
	case "uid":
		h.Uid, err = strconv.Atoi(v)
	case "gid":
		h.Gid, err = strconv.Atoi(v)
	case "mtime":
		h.ModTime, err = paxTime(v)
	case "ctime":
		h.ChangeTime, err = paxTime(v)
	}
	return err
}

// paxTime reads a time in seconds since 1970, with a fraction perhaps.
func paxTime(v string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(v, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || fraction == "" {
		return time.Unix(sec, 0), err
	}
	nsec, err := strconv.ParseUint((fraction + "000000000")[:9], 10, 32)
	if whole[0] == '-' {
		return time.Unix(sec, -int64(nsec)), err
	}
	return time.Unix(sec, int64(nsec)), err
}

// counter counts what is read, and notes the end of the stream.
type counter struct {
	*bufio.Reader
	at    int64
	ended bool
	head  [blockSize]byte // what came first
}

// blockSize is that of a header.
const blockSize = 512

// startsHeader reports whether a header may begin with b: with a name, without control
// characters as other formats and lines of text have them, and padded with zeros to 100
// bytes; then three numbers of 8 bytes.
func startsHeader(b []byte) bool {
	name, rest := b[:min(len(b), 100)], b[min(len(b), 100):min(len(b), 124)]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		if len(bytes.Trim(name[i:], "\x00")) > 0 {
			return false
		}
		name = name[:i]
	}
	isControl := func(r rune) bool { return r < ' ' || r == 0x7f }
	noDigit := func(r rune) bool { return (r < '0' || r > '7') && r != ' ' && r != 0 }
	for len(rest) > 0 {
		number := rest[:min(len(rest), 8)]
		if number[0]&0x80 == 0 && bytes.ContainsFunc(number, noDigit) { // else it is binary
			return false
		}
		rest = rest[len(number):]
	}
	return !bytes.ContainsFunc(name, isControl)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if c.at < blockSize {
		copy(c.head[c.at:], p[:n])
	}
	c.at += int64(n)
	c.ended = c.ended || n == 0 && err == io.EOF
	return n, err
}

var _ pax.Owners = (*fsmeta.Owners)(nil)
