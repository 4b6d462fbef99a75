package seal

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"github.com/zeebo/blake3"
)

// Digest is the BLAKE3 hash of all bytes of an object, which is also its name
// in the repository. The type parameter only keeps the names of different
// kinds of objects apart: a pack's ID cannot be passed for a snapshot's.
type Digest[Kind any] [32]byte

// Sum returns the digest of p.
func Sum[Kind any](p []byte) Digest[Kind] { return blake3.Sum256(p) }

// String returns the digest as 64 lower-case hexadecimal digits.
func (d Digest[Kind]) String() string { return hex.EncodeToString(d[:]) }

// Short returns the first eight digits, for people.
func (d Digest[Kind]) Short() string { return hex.EncodeToString(d[:4]) }

// IsZero reports whether d is the zero value, which stands for "none".
func (d Digest[Kind]) IsZero() bool { return d == Digest[Kind]{} }

// Compare orders digests by their bytes.
func (d Digest[Kind]) Compare(e Digest[Kind]) int { return bytes.Compare(d[:], e[:]) }

// MarshalText makes digests appear as their digits in JSON.
func (d Digest[Kind]) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// ParseDigest reads what String wrote, and nothing else.
func ParseDigest[Kind any](s string) (Digest[Kind], error) {
	var d Digest[Kind]
	if len(s) != 2*len(d) {
		return Digest[Kind]{}, fmt.Errorf("ID %q: want %d hexadecimal digits", s, 2*len(d))
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest[Kind]{}, fmt.Errorf("ID %q: %w", s, err)
	}
	if d.String() != s {
		return Digest[Kind]{}, fmt.Errorf("ID %q: want lower-case digits", s)
	}
	return d, nil
}
