package copytext

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"

	"github.com/zeebo/blake3"
)

// Sum is what Scanner knows of all rows.
type Sum struct {
	Rows, Bytes int64
	Hash        Hash
}

// Hash is a hash of a multiset of rows: the sum modulo 2^128 of the first 16 bytes of
// BLAKE3 of each row without its newline, as little-endian numbers. It is
// that of the same rows in any order, and that of some rows plus that of others is that
// of all of them. Without rows it is zero.
//
// Two tables with the same hash and number of rows have the same rows: if rows
// were lost, added or changed by mistake, the hash is the same with a probability of 2^-128.
// It proves nothing against someone who chooses rows, as sums can
// be made equal with less work than collisions of BLAKE3; what
// was stored is proved by the IDs of chunks, not by this.
type Hash [16]byte

// Add adds the rows that other is of.
func (h *Hash) Add(other Hash) {
	lo, carry := bits.Add64(binary.LittleEndian.Uint64(h[:8]), binary.LittleEndian.Uint64(other[:8]), 0)
	hi, _ := bits.Add64(binary.LittleEndian.Uint64(h[8:]), binary.LittleEndian.Uint64(other[8:]), carry)
	binary.LittleEndian.PutUint64(h[:8], lo)
	binary.LittleEndian.PutUint64(h[8:], hi)
}

// String returns 32 hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText returns what String does.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText returns.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(h)) {
		return fmt.Errorf("a hash of rows has 32 hexadecimal digits, not %q", text)
	}
	if _, err := hex.Decode(h[:], text); err != nil {
		return fmt.Errorf("hash of rows: %w", err)
	}
	return nil
}

// RowError is a row that the server would not have written.
type RowError struct {
	Row int64 // from 1
	Err error
}

// Error says which row and why.
func (e *RowError) Error() string { return fmt.Sprintf("row %d of a table: %v", e.Row, e.Err) }

// Unwrap returns Err.
func (e *RowError) Unwrap() error { return e.Err }

var (
	errEnd       = errors.New(`it is "\.", the end of all rows, which does not belong to them`)
	errBackslash = errors.New("it has a backslash before a tab or newline, which no server writes")
	errNewline   = errors.New("the rows end in the middle of it: they were cut off")
)

// Scanner takes the rows of one table through Write, in pieces of any size, and keeps
// none of them: it needs no memory for a row, however long. Each row must have
// the columns it is made for, and end with a newline.
type Scanner struct {
	columns int
	sum     Sum
	err     error

	// Of a row that is long or comes in pieces: what there was of it.
	begun  bool
	size   int64
	tabs   int
	open   bool // the last byte is a backslash that says what the next one means
	head   [len(end)]byte
	hash   *blake3.Hasher
	digest [32]byte
}

// NewScanner makes a scanner for rows of so many columns. A table can have none: then its
// rows are empty.
func NewScanner(columns int) *Scanner {
	return &Scanner{columns: columns, hash: blake3.New()}
}

// small is the size up to which BLAKE3 hashes without a tree, so that no
// hasher needs to be set up.
const small = 1024

// Write looks at p. It fails with a [*RowError] at the first row that is wrong, and then always.
func (s *Scanner) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	s.sum.Bytes += int64(len(p))
	for rest := p; len(rest) > 0; {
		n := bytes.IndexByte(rest, '\n')
		if n < 0 {
			s.part(rest)
			break
		}
		row := rest[:n]
		rest = rest[n+1:]
		if s.begun || len(row) > small {
			s.part(row)
			s.finish()
		} else {
			s.row(row)
		}
		if s.err != nil {
			return 0, s.err
		}
	}
	return len(p), nil
}

// Close tells that there are no more rows, and returns what they sum up to.
func (s *Scanner) Close() (Sum, error) {
	if s.err == nil && s.begun {
		s.fail(errNewline)
	}
	return s.sum, s.err
}

// row takes a whole row.
func (s *Scanner) row(row []byte) {
	tabs := bytes.Count(row, tab)
	if i := bytes.IndexByte(row, '\\'); i >= 0 {
		if open, bad := escapes(row[i:], false); open || bad {
			s.fail(errBackslash)
			return
		}
		if string(row) == end {
			s.fail(errEnd)
			return
		}
	}
	h := blake3.Sum512(row)
	s.count(tabs, int64(len(row)), Hash(h[:]))
}

const end = `\.`

var tab = []byte{'\t'}

// part takes some more of a row.
func (s *Scanner) part(p []byte) {
	if !s.begun {
		s.begun, s.size, s.tabs, s.open = true, 0, 0, false
		s.hash.Reset()
	}
	var bad bool
	if s.open, bad = escapes(p, s.open); bad {
		s.fail(errBackslash)
		return
	}
	if s.size < int64(len(s.head)) {
		copy(s.head[s.size:], p)
	}
	s.size += int64(len(p))
	s.tabs += bytes.Count(p, tab)
	s.hash.Write(p)
}

// finish takes the newline after parts of a row.
func (s *Scanner) finish() {
	switch {
	case s.err != nil:
		return
	case s.open:
		s.fail(errBackslash)
		return
	case s.size == int64(len(end)) && string(s.head[:]) == end:
		s.fail(errEnd)
		return
	}
	s.begun = false
	s.count(s.tabs, s.size, Hash(s.hash.Sum(s.digest[:0])))
}

// count takes what is known of a row.
func (s *Scanner) count(tabs int, size int64, h Hash) {
	columns := tabs + 1
	if s.columns == 0 && size == 0 {
		columns = 0
	}
	if columns != s.columns {
		s.fail(fmt.Errorf("it has %d columns, not %d", columns, s.columns))
		return
	}
	s.sum.Rows++
	s.sum.Hash.Add(h)
}

func (s *Scanner) fail(err error) {
	if s.err == nil {
		s.err = &RowError{s.sum.Rows + 1, err}
	}
}

// escapes goes from backslash to backslash. Escaped says that one is before p, and open
// that one is behind p; bad is one before a tab.
func escapes(p []byte, escaped bool) (open, bad bool) {
	for {
		if escaped {
			if len(p) == 0 {
				return true, false
			}
			if p[0] == '\t' {
				return false, true
			}
			p = p[1:]
		}
		i := bytes.IndexByte(p, '\\')
		if i < 0 {
			return false, false
		}
		p, escaped = p[i+1:], true
	}
}
