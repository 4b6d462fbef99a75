package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// HeaderSize is the size of the header of every object, in bytes.
const HeaderSize = 48

// version is the version of all formats. It is in the bytes so that a future
// program can tell objects apart, and this one can refuse what it would
// misread.
const version = 1

const magic = "cairn\x00"

// Errors about whole objects. They are wrapped with what was found.
var (
	// ErrDamaged: the bytes are not what a program of this format wrote:
	// malformed, cut off, or an authentication failed.
	ErrDamaged = errors.New("damaged")
	// ErrForeign: the object is sound but belongs to another repository.
	ErrForeign = errors.New("belongs to another repository")
	// ErrNewer: the object is of a format version that this program does not
	// know.
	ErrNewer = errors.New("is of a newer format; use a newer cairn")
	// ErrNoKey: the key that opens this is not among the ones that the slot
	// gave.
	ErrNoKey = errors.New("no key for it")
)

// Kind says what an object is.
type Kind uint8

// The kinds of objects.
const (
	Config     Kind = 'C'
	KeySlot    Kind = 'K'
	DataPack   Kind = 'D'
	MetaPack   Kind = 'M'
	Segment    Kind = 'I'
	Manifest   Kind = 'S'
	Tombstone  Kind = 'T'
	LeaseBegin Kind = 'B'
	LeaseBeat  Kind = 'H'
	LeaseEnd   Kind = 'E'
	Condemned  Kind = 'X'
)

var kindNames = map[Kind]string{
	Config: "config", KeySlot: "key slot", DataPack: "data pack", MetaPack: "meta pack", Segment: "index segment",
	Manifest: "manifest", Tombstone: "tombstone", LeaseBegin: "lease", LeaseBeat: "lease beat", LeaseEnd: "lease end",
	Condemned: "condemned list",
}

func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("object of kind 0x%02x", uint8(k))
}

// RepositoryID names a repository. It is the hash of the repository's public
// keys (see NewRepositoryID), so that nobody can swap the keys and keep the name.
type RepositoryID = Digest[repository]

// ParseRepositoryID reads what String wrote, and nothing else.
func ParseRepositoryID(s string) (RepositoryID, error) { return ParseDigest[repository](s) }

type repository struct{}

// Place is where a key is valid: an epoch of a deduplication domain.
type Place struct {
	Epoch  uint32 // from 1; 0 in config and key slots only
	Domain uint32
}

func (p Place) String() string {
	if p.Domain == 0 {
		return fmt.Sprintf("epoch %d", p.Epoch)
	}
	return fmt.Sprintf("epoch %d of domain %d", p.Epoch, p.Domain)
}

// Header begins every object and is authenticated by every seal in it.
type Header struct {
	Kind       Kind
	Repository RepositoryID
	Place
}

// Append appends the header's 48 bytes.
//
//	magic 6 | kind 1 | version 1 | repository 32 | epoch 4 | domain 4
func (h Header) Append(b []byte) []byte {
	b = append(b, magic...)
	b = append(b, byte(h.Kind), version)
	b = append(b, h.Repository[:]...)
	b = binary.LittleEndian.AppendUint32(b, h.Epoch)
	return binary.LittleEndian.AppendUint32(b, h.Domain)
}

// ParseHeader reads the header of an object that should be of the given kind.
// It checks neither the repository nor the place: see Check.
func ParseHeader(p []byte, kind Kind) (Header, error) {
	if len(p) < HeaderSize {
		return Header{}, fmt.Errorf("%s of %d bytes is %w: too short", kind, len(p), ErrDamaged)
	}
	if string(p[:6]) != magic {
		return Header{}, fmt.Errorf("%s is %w: not an object of cairn", kind, ErrDamaged)
	}
	if got := Kind(p[6]); got != kind {
		return Header{}, fmt.Errorf("%s is %w: it is a %s", kind, ErrDamaged, got)
	}
	if p[7] == 0 {
		return Header{}, fmt.Errorf("%s is %w: version 0", kind, ErrDamaged)
	}
	if p[7] != version {
		return Header{}, fmt.Errorf("%s of version %d %w", kind, p[7], ErrNewer)
	}
	h := Header{Kind: kind}
	copy(h.Repository[:], p[8:40])
	h.Epoch = binary.LittleEndian.Uint32(p[40:])
	h.Domain = binary.LittleEndian.Uint32(p[44:])
	return h, nil
}

// Check returns ErrForeign if the object is not of the given repository.
func (h Header) Check(id RepositoryID) error {
	if h.Repository != id {
		return fmt.Errorf("%s %w (%s, not %s)", h.Kind, ErrForeign, h.Repository.Short(), id.Short())
	}
	return nil
}
