package refreader

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hpke"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"unicode/utf8"

	"github.com/zeebo/blake3"
)

// Section 1: integers, strings, hashes and ciphers.

// ID is a BLAKE3 hash that names something: an object, a chunk, the repository, a lease.
type ID [32]byte

// String returns the 64 lower-case hexadecimal digits that stand in object names.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// parseID reads what String returns, and nothing else.
func parseID(s string) (id ID, ok bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) || hex.EncodeToString(b) != s {
		return ID{}, false
	}
	return ID(b), true
}

// hash is H(parts joined).
func hash(parts ...[]byte) ID {
	return finish(blake3.New(), parts)
}

// keyed is H(key, parts joined).
func keyed(key ID, parts ...[]byte) ID {
	return finish(newKeyed(key), parts)
}

// kdf is KDF(context, parts joined).
func kdf(context string, parts ...[]byte) ID {
	return finish(blake3.NewDeriveKey(context), parts)
}

// newKeyed begins H(key, ...) for contents that are not in one place.
func newKeyed(key ID) *blake3.Hasher {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic("internal error: " + err.Error()) // only for keys that are not 32 bytes
	}
	return h
}

// finish adds parts to h and returns its hash.
func finish(h *blake3.Hasher, parts [][]byte) (id ID) {
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(id[:0])
	return id
}

// gcmTag is the length of an AEAD's tag; a ciphertext is that much longer than its plaintext.
const gcmTag = 16

// zeroNonce is the nonce under every key that seals one message only.
var zeroNonce [12]byte

// openAEAD opens AEAD(key, nonce, associated data ad).
func openAEAD(key ID, nonce [12]byte, ad, ciphertext []byte) ([]byte, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return gcm.Open(nil, nonce[:], ciphertext, ad)
}

// Lengths of HPKE with MLKEM768-X25519: the encapsulated key comes first in every message.
const (
	hpkeEnc       = 1120
	hpkePublicKey = 1216
	hpkeSecret    = hpkeEnc + 32 + gcmTag // a message that carries 32 bytes
)

// openHPKE opens a sealed message; the context is in info, associated data is empty.
func openHPKE(key hpke.PrivateKey, message []byte, info ...[]byte) ([]byte, error) {
	var context []byte
	for _, p := range info {
		context = append(context, p...)
	}
	return hpke.Open(key, hpke.HKDFSHA256(), hpke.AES256GCM(), context, message)
}

// padme rounds n up so that only O(log log n) bits of it remain visible: at most 12 % more.
func padme(n uint64) uint64 {
	if n < 2 {
		return n
	}
	e := bits.Len64(n) - 1
	s := bits.Len64(uint64(e)) // floor(log2 e) + 1
	mask := uint64(1)<<(e-s) - 1
	return (n + mask) &^ mask
}

func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

// A cursor reads an encoding from front to back. Its error sticks: after the first one every read
// returns zeros, so that a parser reads straight on and asks once, at its end.
type cursor struct {
	b   []byte // what is left
	n   int    // bytes read
	err error
}

func newCursor(b []byte) *cursor { return &cursor{b: b} }

func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("at byte %d: %w", c.n, fmt.Errorf(format, args...))
		c.b = nil
	}
}

// require fails with the message unless ok holds.
func (c *cursor) require(ok bool, format string, args ...any) {
	if !ok {
		c.fail(format, args...)
	}
}

// take returns the next n bytes, which are part of the input.
func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.fail("%d bytes expected, %d left", n, len(c.b))
		return nil
	}
	p := c.b[:n:n]
	c.b = c.b[n:]
	c.n += int(n)
	return p
}

// fixed is take for a caller that needs n bytes even after an error.
func (c *cursor) fixed(n uint64) []byte {
	if p := c.take(n); p != nil {
		return p
	}
	return make([]byte, n)
}

func (c *cursor) u8() uint8   { return c.fixed(1)[0] }
func (c *cursor) u32() uint32 { return binary.LittleEndian.Uint32(c.fixed(4)) }
func (c *cursor) u64() uint64 { return binary.LittleEndian.Uint64(c.fixed(8)) }
func (c *cursor) i64() int64  { return int64(c.u64()) }
func (c *cursor) id() ID      { return ID(c.fixed(32)) }

// uvarint reads LEB128 and refuses every form but the shortest.
func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	switch {
	case n <= 0:
		c.fail("bad uvarint")
		return 0
	case n > 1 && c.b[n-1] == 0:
		c.fail("uvarint is not in its shortest form")
		return 0
	}
	c.take(uint64(n))
	return v
}

// svarint reads a zigzag-coded uvarint.
func (c *cursor) svarint() int64 {
	v := c.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

func (c *cursor) bytes() []byte { return c.take(c.uvarint()) }

func (c *cursor) text() string {
	b := c.bytes()
	c.require(utf8.Valid(b), "text is not UTF-8")
	return string(b)
}

// count checks the number of items of a list against the bytes left, each item having at least min
// bytes, so that no damaged count makes a parser allocate more than the input's size.
func (c *cursor) count(n uint64, min int) int {
	if n > uint64(len(c.b)/min) {
		c.fail("%d items do not fit into %d bytes", n, len(c.b))
		return 0
	}
	return int(n)
}

// ids reads n IDs, which ascend strictly as all lists of IDs do.
func (c *cursor) ids(n uint64) []ID {
	out := make([]ID, c.count(n, 32))
	for i := range out {
		out[i] = c.id()
		c.require(i == 0 || less(out[i-1][:], out[i][:]), "IDs are not in order")
	}
	return out
}

// less reports whether a comes before b in bytewise order.
func less(a, b []byte) bool { return string(a) < string(b) }

// end returns the first error, which may be that bytes are left.
func (c *cursor) end() error {
	if c.err == nil && len(c.b) > 0 {
		c.fail("%d bytes left over", len(c.b))
	}
	return c.err
}

// endPadded is end for an encoding that is padded with zero bytes up to padme of its length.
func (c *cursor) endPadded() error {
	if c.err != nil {
		return c.err
	}
	if want := padme(uint64(c.n)) - uint64(c.n); want != uint64(len(c.b)) {
		return fmt.Errorf("%d bytes of padding, %d expected", len(c.b), want)
	}
	if !isZero(c.b) {
		return errors.New("padding is not zero")
	}
	return nil
}

func isZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
