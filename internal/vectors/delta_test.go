package vectors

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/chunk/delta"
)

// Deltas. They are written by hand, as an encoder may find other copies some day.

func makeDeltas(*testing.T) map[string]*vector {
	first, second := []byte("the first base, "), []byte("and the second")
	good := func(comment, plaintext string, delta []byte, bases ...[]byte) *vector {
		v := &vector{comment: comment, expect: "success"}
		for _, b := range bases {
			v.add("base", b)
		}
		v.add("delta", delta)
		v.add("raw-length", binary.LittleEndian.AppendUint32(nil, uint32(len(plaintext))))
		v.add("plaintext", []byte(plaintext))
		return v
	}
	one := good("An insert between two copies of one base.\n", "the very first base, ",
		[]byte{0, 4, 0, 5, 'v', 'e', 'r', 'y', ' ', 12, 0}, first)
	two := good("Copies of two bases: one over the seam, one back to the front, one of the second alone; literals last.\n",
		"base, and the second!", []byte{0, 10, 20, 0, 4, 39, 0, 6, 40, 1, '!'}, first, second)
	many := strings.Repeat("0123456789abcdef", 10)
	literals := good("An insert alone, of more than 127 bytes: its length is a number of two bytes.\n",
		many, append([]byte{0xa0, 1}, many...), first)
	to := func(p ...byte) func([]byte) []byte { return func([]byte) []byte { return p } }
	length := func(n uint32) func([]byte) []byte {
		return func([]byte) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
	}
	return map[string]*vector{
		"one":       one,
		"two":       two,
		"literals":  literals,
		"cut-off":   one.changed("The last byte is missing.\n", "damaged", "delta", func(p []byte) []byte { return p[:len(p)-1] }),
		"too-much":  one.changed("A byte follows the last copy.\n", "damaged", "delta", func(p []byte) []byte { return append(p, 0) }),
		"shorter":   one.changed("The last copy makes a byte more than the chunk has.\n", "damaged", "raw-length", length(20)),
		"longer":    one.changed("It ends a byte before the chunk does.\n", "damaged", "raw-length", length(22)),
		"before":    one.changed("A copy from before the base.\n", "damaged", "delta", to(0, 4, 1, 5, 'v', 'e', 'r', 'y', ' ', 12, 0)),
		"behind":    one.changed("A copy from behind the base.\n", "damaged", "delta", to(0, 4, 0, 5, 'v', 'e', 'r', 'y', ' ', 12, 2)),
		"no-length": one.changed("A copy of no bytes.\n", "damaged", "delta", to(0, 4, 0, 0, 0, 2, 5, 'v', 'e', 'r', 'y', ' ', 12, 1)),
		"joined":    two.changed("Two copies that are one.\n", "damaged", "delta", to(0, 6, 20, 0, 4, 0, 0, 4, 39, 0, 6, 40, 1, '!')),
		"long-form": one.changed("A number that is longer than it need be.\n", "damaged", "delta", to(0, 0x84, 0, 0, 5, 'v', 'e', 'r', 'y', ' ', 12, 0)),
		"huge":      one.changed("A length that does not fit into 63 bits.\n", "damaged", "delta", to(append(binary.AppendUvarint([]byte{0}, 1<<63), 0)...)),
	}
}

func checkDelta(r *reader) {
	raw := binary.LittleEndian.Uint32(r.bytes("raw-length"))
	got, err := delta.Decode(nil, r.bytes("delta"), int(raw), r.all("base")...)
	if r.failed(err) {
		return
	}
	r.equal("plaintext", got)
}
