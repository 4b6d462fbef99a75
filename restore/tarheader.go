package restore

import (
	"archive/tar"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/internal/pax"
	"github.com/cairn-backup/cairn/snapshot"
)

var (
	errSocketTar = errors.New("is a socket, which a tar archive can't hold")
	errDeviceTar = errors.New("has a device number that a tar archive can't hold")
	errNamesTar  = errors.New("has a name or link target that is too long for a tar archive")
	errAttrsTar  = errors.New("has extended attributes that are too large for a tar archive; they are left out")
)

var tarTypes = [...]byte{
	snapshot.File: tar.TypeReg, snapshot.Directory: tar.TypeDir, snapshot.Symlink: tar.TypeSymlink,
	snapshot.FIFO: tar.TypeFifo, snapshot.Socket: 0, snapshot.CharDevice: tar.TypeChar, snapshot.BlockDevice: tar.TypeBlock,
}

// Bounds of what a header can hold.
const (
	maxTarDevice  = 1<<21 - 1 // seven octal digits
	maxPlainWords = 1 << 19   // bytes of text that fit without looking closer
)

// header returns the header of an entry, nil if a tar can't hold it. Numbers and names of
// owners go as the snapshot has them: who extracts the archive chooses.
func header(e *snapshot.Entry, name string) (*tar.Header, []error) {
	h := &tar.Header{
		Typeflag: tarTypes[e.Type], Name: name, Size: int64(e.Size), Mode: int64(e.Mode),
		Uid: int(e.UID), Gid: int(e.GID), Uname: ownerName(e.User), Gname: ownerName(e.Group),
		ModTime: e.Mtime.Std(), Linkname: string(e.Target), Format: tar.FormatPAX,
	}
	switch e.Type {
	case snapshot.Socket:
		return nil, []error{errSocketTar}
	case snapshot.CharDevice, snapshot.BlockDevice:
		h.Devmajor, h.Devminor = int64(unix.Major(e.Device)), int64(unix.Minor(e.Device))
		if h.Devmajor > maxTarDevice || h.Devminor > maxTarDevice {
			return nil, []error{errDeviceTar}
		}
	}
	xs := make([]fsmeta.Xattr, len(e.Xattrs))
	for i, x := range e.Xattrs {
		xs[i] = fsmeta.Xattr{Name: x.Name, Value: x.Value}
	}
	h.PAXRecords = pax.Records(xs)
	markBinary(h)
	return fit(h)
}

// ownerName returns a name that a header can hold.
func ownerName(s string) string {
	if strings.IndexByte(s, 0) >= 0 {
		return ""
	}
	return s
}

// markBinary says that names are to be taken as they are if they are not in UTF-8, which
// they should be in PAX headers.
func markBinary(h *tar.Header) {
	if utf8.ValidString(h.Name) && utf8.ValidString(h.Linkname) && utf8.ValidString(h.Uname) && utf8.ValidString(h.Gname) {
		return
	}
	if h.PAXRecords == nil {
		h.PAXRecords = make(map[string]string)
	}
	h.PAXRecords["hdrcharset"] = "BINARY"
}

// fit leaves out the attributes of a header that is too large, and gives it up if it still
// is.
func fit(h *tar.Header) (*tar.Header, []error) {
	size := len(h.Name) + len(h.Linkname)
	for k, v := range h.PAXRecords {
		size += len(k) + len(v) + 16
	}
	fits := func() bool { return tar.NewWriter(io.Discard).WriteHeader(h) == nil }
	if size < maxPlainWords || fits() {
		return h, nil
	}
	h.PAXRecords = nil
	markBinary(h)
	if !fits() {
		return nil, []error{errNamesTar}
	}
	return h, []error{errAttrsTar}
}

// linkHeader makes a header that of a further name of the file first.
func linkHeader(h *tar.Header, first string) {
	h.Typeflag, h.Linkname, h.Size, h.Devmajor, h.Devminor = tar.TypeLink, first, 0, 0, 0
	h.PAXRecords = nil // they are set with the first name
	markBinary(h)
}
