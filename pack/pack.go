// Package pack is the format of pack files: many sealed chunks in one object,
// with a directory at the end from which an index can be rebuilt.
//
//	header 48 | salt 32 | sealed pack key 1168 | frame... | padding | directory | length 4 | magic 4
//
// Each pack has a random key, sealed to the repository's public key: whoever writes packs
// can't read any, not even its own of yesterday. The directory is sealed with
// the index key, which writers have, so that they can find what is stored
// without being able to read it.
//
// The package works on bytes, io.Writer and byte slices of a pack; it knows no
// storage. The layout is in docs/format.md, section 7.
package pack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/chunk/delta"
	"github.com/cairn-backup/cairn/seal"
)

// ID names a pack: the BLAKE3 of its bytes.
type ID = seal.Digest[packs]

type packs struct{}

// ParseID reads what ID.String wrote.
func ParseID(s string) (ID, error) { return seal.ParseDigest[packs](s) }

// Sizes in bytes.
const (
	// PrefixSize is what stands before the first frame: header, salt and
	// sealed key.
	PrefixSize = seal.HeaderSize + seal.SaltSize + seal.SealedKeySize
	// FooterSize is what stands behind the directory.
	FooterSize = 8
	// MaxSize bounds a pack, as offsets have 32 bits.
	MaxSize = 1<<32 - 1
	// MaxChunk bounds the plaintext of a chunk, and so the memory that a
	// reader may be made to use.
	MaxChunk = 16 << 20
	// MaxDirectory bounds a sealed directory, which a reader takes into memory
	// before it can tell who made it: some 1.5 million chunks.
	MaxDirectory = 64 << 20
)

const (
	footerMagic    = "crnP"
	paddingContext = "cairn v1 padding"
	keyContext     = "cairn v1 pack"
	minFrame       = seal.Overhead + 1
	entrySize      = 32 + 1 + 1 + 4 + 4
)

// Encoding says how a chunk's plaintext became the contents of its frame.
type Encoding uint8

const (
	// Plain is the plaintext itself.
	Plain Encoding = 0
	// Zstd is a zstd frame (RFC 8878).
	Zstd Encoding = 1
	// Delta is a zstd frame of the differences to one or two base chunks (see
	// package delta). Only data chunks are encoded so.
	Delta Encoding = 2
)

func (e Encoding) String() string {
	switch e {
	case Plain:
		return "plain"
	case Zstd:
		return "zstd"
	case Delta:
		return "delta"
	}
	return fmt.Sprintf("encoding %d", uint8(e))
}

// Bases are the chunks that a delta is made against: one or two, the unused one zero.
// The zero value is none.
type Bases [delta.MaxBases]chunk.ID

// BasesSize is the size of Bases in bytes, in each format.
const BasesSize = 32 * delta.MaxBases

// IDs returns the bases, none to two.
func (b *Bases) IDs() []chunk.ID {
	n := 0
	for n < len(b) && !b[n].IsZero() {
		n++
	}
	return b[:n]
}

// valid reports whether a chunk can have these bases, if it has any: not itself, nor one
// twice, and the unused one comes last.
func (b *Bases) valid(of chunk.ID) bool {
	for i, id := range b {
		if id.IsZero() {
			continue
		}
		if id == of || i > 0 && (b[i-1].IsZero() || b[i-1] == id) {
			return false
		}
	}
	return true
}

// Append appends the bases as the formats have them.
func (b *Bases) Append(p []byte) []byte {
	for _, id := range b {
		p = append(p, id[:]...)
	}
	return p
}

// ParseBases reads what Append wrote, of BasesSize bytes.
func ParseBases(p []byte) (b Bases) {
	for i := range b {
		b[i] = chunk.ID(p[32*i : 32*i+32])
	}
	return b
}

// Compare orders bases by their bytes.
func (b *Bases) Compare(o *Bases) int {
	for i := range b {
		if c := bytes.Compare(b[i][:], o[i][:]); c != 0 {
			return c
		}
	}
	return 0
}

func (b Bases) String() string {
	var s []string
	for _, id := range b {
		s = append(s, id.Short())
	}
	return strings.Join(s, " and ")
}

// Entry is what a directory or an index knows of a chunk in a pack.
type Entry struct {
	ID       chunk.ID
	Bases    Bases  // none unless Encoding is Delta
	Offset   uint32 // of the frame in the pack
	Stored   uint32 // bytes of the frame
	Raw      uint32 // bytes of the plaintext
	Kind     chunk.Kind
	Encoding Encoding
}

// Validate reports why an entry can't stand in a pack of the given kind.
func (e Entry) Validate(kind seal.Kind) error {
	switch {
	case !e.Kind.Valid() || e.Kind.IsMeta() != (kind == seal.MetaPack):
		return fmt.Errorf("chunk %s: a %s has no %s chunks", e.ID.Short(), kind, e.Kind)
	case e.Encoding > Delta:
		return fmt.Errorf("chunk %s: unknown %s", e.ID.Short(), e.Encoding)
	case e.Encoding == Delta && e.Kind != chunk.Data:
		return fmt.Errorf("chunk %s: %s of a %s chunk", e.ID.Short(), e.Encoding, e.Kind)
	case (e.Bases == Bases{}) != (e.Encoding != Delta):
		return fmt.Errorf("chunk %s: %s with bases %s", e.ID.Short(), e.Encoding, e.Bases)
	case !e.Bases.valid(e.ID):
		return fmt.Errorf("chunk %s: it can't have bases %s", e.ID.Short(), e.Bases)
	case e.Raw == 0 || e.Raw > MaxChunk:
		return fmt.Errorf("chunk %s: %d bytes", e.ID.Short(), e.Raw)
	case e.Stored < minFrame || e.Stored > MaxChunk+seal.Overhead:
		return fmt.Errorf("chunk %s: frame of %d bytes", e.ID.Short(), e.Stored)
	case e.Encoding == Plain && e.Stored != e.Raw+seal.Overhead:
		return fmt.Errorf("chunk %s: plain frame of %d bytes for %d", e.ID.Short(), e.Stored, e.Raw)
	case e.Offset < PrefixSize || uint64(e.Offset)+uint64(e.Stored) > MaxSize:
		return fmt.Errorf("chunk %s: frame at %d", e.ID.Short(), e.Offset)
	}
	return nil
}

// nonce is that of the frame at an offset. Offsets grow within a pack and a
// pack key seals one pack, so no nonce is used twice.
func nonce(offset uint32) (n [seal.NonceSize]byte) {
	binary.LittleEndian.PutUint64(n[4:], uint64(offset))
	return n
}

// associated appends what is authenticated with a frame.
func (e Entry) associated(b []byte) []byte {
	b = append(b, e.ID[:]...)
	b = append(b, byte(e.Kind), byte(e.Encoding))
	b = binary.LittleEndian.AppendUint32(b, e.Raw)
	return e.Bases.Append(b)
}

const associatedSize = 32 + 1 + 1 + 4 + BasesSize

// paddedSize is the size of a pack that needs n bytes without padding. A
// padding of 1 to 15 bytes can't hold its tag, so it becomes a larger one.
func paddedSize(n int) int {
	p := seal.Padme(n)
	if p != n && p-n < seal.Overhead {
		p = seal.Padme(n + seal.Overhead)
	}
	return p
}
