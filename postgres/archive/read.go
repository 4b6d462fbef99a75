package archive

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// ErrCorrupt is in the chain of every error about bytes that no pg_dump writes.
// Where the bytes end too early it is io.ErrUnexpectedEOF instead.
var ErrCorrupt = errors.New("not an intact pg_dump archive")

// VersionError is an archive of a version that this package does not know.
type VersionError struct{ Version Version }

// Error names the version, and those that are known.
func (e *VersionError) Error() string {
	v := e.Version
	return fmt.Sprintf("the archive has version %d.%d-%d of pg_dump's format, and only 1.%d to 1.%d are known; use a pg_dump of another release",
		v.Major, v.Minor, v.Rev, oldest, newest)
}

// Minor versions: what is known, and from which on a field is there.
const (
	oldest, newest = 12, 16

	withTableAM = 14
	withMethod  = 15 // the method of compression in one byte, not the level in an int
	withRelKind = 16
)

const (
	magic = "PGDMP"

	intSize    = 4 // bytes of an integer without its sign
	offsetSize = 8

	// Strings are read in pieces of this size, so that memory grows with what there
	// is, not with the length that is claimed.
	pieceSize = 64 << 10
)

// source is what is read from: a stream, byte by byte where it must be, so that
// nothing behind what was asked for is taken.
type source interface {
	io.Reader
	io.ByteReader
}

// byteSource makes a source of any reader: slowly, with a read for each byte.
type byteSource struct{ io.Reader }

func (s byteSource) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(s.Reader, b[:])
	return b[0], err
}

// decoder reads the values that an archive is made of. The first error stays; what is
// read after it is zero.
type decoder struct {
	src source
	err error

	number [1 + intSize]byte // here, as arguments of an interface's methods are allocated
	piece  []byte
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format+": %w", append(args, ErrCorrupt)...)
	}
}

func (d *decoder) bytes(p []byte) {
	if d.err != nil {
		clear(p)
		return
	}
	if _, err := io.ReadFull(d.src, p); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		d.err = err
		clear(p)
	}
}

func (d *decoder) byte() byte {
	if d.err != nil {
		return 0
	}
	b, err := d.src.ReadByte()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	d.err = err
	return b
}

// int reads a sign and four bytes, the smallest first.
func (d *decoder) int() int32 {
	d.bytes(d.number[:])
	v, ok := decodeInt(d.number)
	if !ok {
		d.fail("an integer is % x", d.number[:])
	}
	return v
}

// decodeInt refuses what pg_dump does not write: other signs, a negative zero, more
// than 31 bits. -2^31 has a sign and the magnitude 2^31: an OID may be that.
func decodeInt(p [1 + intSize]byte) (v int32, ok bool) {
	m := uint32(p[1]) | uint32(p[2])<<8 | uint32(p[3])<<16 | uint32(p[4])<<24
	switch {
	case p[0] == 0 && m <= math.MaxInt32:
		return int32(m), true
	case p[0] == 1 && m > 0 && m <= 1<<31:
		return int32(-int64(m)), true
	}
	return 0, false
}

func (d *decoder) text() Text {
	n := int(d.int())
	if n == -1 {
		return Text{Null: true}
	}
	if n < 0 {
		d.fail("a string has %d bytes", n)
		return Text{}
	}
	if n <= pieceSize {
		if n > len(d.piece) {
			d.piece = make([]byte, max(n, 1<<10))
		}
		d.bytes(d.piece[:n])
		return Text{S: string(d.piece[:n])}
	}
	var long []byte
	for n > 0 && d.err == nil {
		k := min(n, pieceSize)
		long = append(long, make([]byte, k)...)
		d.bytes(long[len(long)-k:])
		n -= k
	}
	return Text{S: string(long)}
}

// uint reads a number that is written in decimal digits.
func (d *decoder) uint(what string) uint32 {
	t := d.text()
	v, err := strconv.ParseUint(t.S, 10, 32)
	if err != nil || strconv.FormatUint(v, 10) != t.S {
		d.fail("%s is %.20q", what, t.S)
	}
	return uint32(v)
}

// ReadTOC reads the header and the table of contents, and not a byte behind them; r
// should be a *bufio.Reader or another io.ByteReader, from which [NewData] then
// reads on. It holds no more memory than a small multiple of what it read.
//
// It refuses what Append would write differently, and with a *[VersionError] a version
// that it does not know.
func ReadTOC(r io.Reader) (*TOC, error) {
	src, ok := r.(source)
	if !ok {
		src = byteSource{r}
	}
	d := &decoder{src: src}
	t := &TOC{Header: d.header()}
	if d.err != nil {
		return nil, fmt.Errorf("header of the archive: %w", d.err)
	}
	n := d.int()
	if n < 0 {
		d.fail("%d entries", n)
	}
	seen := make(map[int32]bool)
	for i := range n {
		e := d.entry(&t.Header)
		if d.err == nil && seen[e.DumpID] {
			d.fail("ID %d twice", e.DumpID)
		}
		if d.err != nil {
			return nil, fmt.Errorf("entry %d of %d in the archive's table of contents: %w", i+1, n, d.err)
		}
		seen[e.DumpID] = true
		t.Entries = append(t.Entries, e)
	}
	if d.err != nil {
		return nil, fmt.Errorf("table of contents of the archive: %w", d.err)
	}
	return t, nil
}

func (d *decoder) header() (h Header) {
	var start [len(magic) + 3]byte
	d.bytes(start[:])
	if d.err == nil && string(start[:len(magic)]) != magic {
		d.fail("it begins with %q, not %q", start[:len(magic)], magic)
	}
	h.Version = Version{start[5], start[6], start[7]}
	if d.err == nil && (h.Version.Major != 1 || h.Version.Minor < oldest || h.Version.Minor > newest) {
		d.err = &VersionError{h.Version}
	}
	if n := d.byte(); d.err == nil && n != intSize {
		d.fail("integers of %d bytes", n)
	}
	if n := d.byte(); d.err == nil && n != offsetSize {
		d.fail("offsets of %d bytes", n)
	}
	h.Format = Format(d.byte())
	if d.err == nil && h.Format != Custom && h.Format != Directory {
		d.fail("format %d is neither custom nor directory", h.Format)
	}
	if h.Version.Minor >= withMethod {
		h.Compression = int32(d.byte())
	} else {
		h.Compression = d.int()
	}
	c := &h.Created
	for _, v := range []*int32{&c.Second, &c.Minute, &c.Hour, &c.Day, &c.Month, &c.Year, &c.DST} {
		*v = d.int()
	}
	h.Database, h.ServerVersion, h.DumpVersion = d.text(), d.text(), d.text()
	return h
}

func (d *decoder) entry(h *Header) (e Entry) {
	if e.DumpID = d.int(); e.DumpID <= 0 {
		d.fail("its ID is %d", e.DumpID)
	}
	switch v := d.int(); v {
	case 0, 1:
		e.HasData = v == 1
	default:
		d.fail("it has data: %d", v)
	}
	e.TableOID, e.OID = d.uint("the OID of the catalog"), d.uint("the OID")
	e.Tag, e.Desc = d.text(), d.text()
	e.Section = Section(d.int())
	e.Defn, e.Drop, e.Copy = d.text(), d.text(), d.text()
	e.Schema, e.Tablespace = d.text(), d.text()
	if h.Version.Minor >= withTableAM {
		e.TableAM = d.text()
	}
	if h.Version.Minor >= withRelKind {
		e.RelKind = d.int()
	}
	e.Owner, e.WithOIDs = d.text(), d.text()
	e.Deps = d.deps()
	if h.Format == Directory {
		if e.File = d.text(); e.File.Null {
			d.fail("its file has no name")
		}
		return e
	}
	e.Offset.State = OffsetState(d.byte())
	for i := range offsetSize {
		e.Offset.Pos |= uint64(d.byte()) << (8 * i)
	}
	if s := e.Offset.State; s < OffsetUnknown || s > OffsetNoData {
		d.fail("the state of its offset is %d", s)
	}
	return e
}

// deps reads numbers in decimal digits up to a NULL.
func (d *decoder) deps() (deps []int32) {
	for d.err == nil {
		t := d.text()
		if t.Null {
			return deps
		}
		v, err := strconv.ParseInt(t.S, 10, 32)
		if err != nil || strconv.FormatInt(v, 10) != t.S {
			d.fail("it depends on %.20q", t.S)
		}
		deps = append(deps, int32(v))
	}
	return nil
}
