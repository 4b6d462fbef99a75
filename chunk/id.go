package chunk

import (
	"encoding/hex"
	"fmt"
)

// IDSize is the size of an ID in bytes.
const IDSize = 32

// ID names a chunk: the BLAKE3 of its plaintext, keyed with a secret of the
// repository (see Hasher). Equal plaintexts of one kind in one epoch have
// equal IDs, and nobody without the secret can tell which plaintext an ID
// stands for.
type ID [IDSize]byte

// String returns the ID as 64 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first ten digits, enough for a person to tell IDs apart.
func (id ID) Short() string { return hex.EncodeToString(id[:5]) }

// IsZero reports whether id is the zero value, which names no chunk.
func (id ID) IsZero() bool { return id == ID{} }

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*IDSize {
		return ID{}, fmt.Errorf("chunk ID %q: want %d hexadecimal digits", s, 2*IDSize)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("chunk ID %q: %w", s, err)
	}
	if id.String() != s {
		return ID{}, fmt.Errorf("chunk ID %q: want lower-case digits", s)
	}
	return id, nil
}
