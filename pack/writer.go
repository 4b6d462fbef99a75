package pack

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/blake3"

	"github.com/cairn-backup/cairn/seal"
)

// ErrFull is returned by Append when a pack can't take a further chunk.
var ErrFull = errors.New("pack is full")

// Writer writes one pack: Append for each chunk, then Finish. After an error
// the pack is of no use. Not for concurrent use.
type Writer struct {
	w       io.Writer
	sum     *blake3.Hasher
	aead    cipher.AEAD
	prefix  []byte
	dirKey  [32]byte
	kind    seal.Kind
	entries []Entry
	dirSize int // of the directory's plaintext, without padding
	size    int
	err     error // sticky; errFinished after Finish
	space   space // of Append
}

var errFinished = errors.New("pack is finished")

// NewWriter begins a pack and writes its prefix to w. h.Kind is DataPack or MetaPack;
// keys are those of h.Place; random gives salt and pack key.
func NewWriter(w io.Writer, h seal.Header, public *seal.PublicKey, keys *seal.Keys, random io.Reader) (*Writer, error) {
	if h.Kind != seal.DataPack && h.Kind != seal.MetaPack {
		return nil, fmt.Errorf("%s is no kind of pack", h.Kind)
	}
	var salt [seal.SaltSize]byte
	var key [32]byte
	if _, err := io.ReadFull(random, salt[:]); err != nil {
		return nil, fmt.Errorf("read random bytes: %w", err)
	}
	if _, err := io.ReadFull(random, key[:]); err != nil {
		return nil, fmt.Errorf("read random bytes: %w", err)
	}
	prefix := h.Append(make([]byte, 0, PrefixSize))
	prefix = append(prefix, salt[:]...)
	sealed, err := public.Seal(append([]byte(keyContext), prefix...), key[:])
	if err != nil {
		return nil, fmt.Errorf("seal pack key: %w", err)
	}
	p := &Writer{
		w:       w,
		sum:     blake3.New(),
		aead:    seal.NewAEAD(key),
		prefix:  append(prefix, sealed...),
		dirKey:  keys.DirectoryKey(salt),
		kind:    h.Kind,
		dirSize: 4,
	}
	return p, p.write(p.prefix)
}

func (p *Writer) write(b []byte) error {
	if p.err != nil {
		return p.err
	}
	p.sum.Write(b)
	if _, err := p.w.Write(b); err != nil {
		p.err = fmt.Errorf("write pack: %w", err)
		return p.err
	}
	p.size += len(b)
	return nil
}

// Append seals a chunk's encoded contents into the pack. The caller sets e.ID,
// Kind, Encoding, Raw and Bases; Append sets Offset and Stored and returns the entry.
// It seals in place, to spare a copy: what encoded holds is lost.
func (p *Writer) Append(e Entry, encoded []byte) (Entry, error) {
	if p.err != nil {
		return Entry{}, p.err
	}
	if p.size+len(encoded)+p.dirSize > MaxSize/2 || p.dirSize >= maxDirectory {
		return Entry{}, ErrFull
	}
	e.Offset = uint32(p.size)
	e.Stored = uint32(len(encoded) + seal.Overhead)
	if err := e.Validate(p.kind); err != nil {
		return Entry{}, err
	}
	p.space.nonce = nonce(e.Offset)
	ad := e.associated(p.space.associated[:0])
	if err := p.write(p.aead.Seal(encoded[:0], p.space.nonce[:], encoded, ad)); err != nil {
		return Entry{}, err
	}
	p.entries = append(p.entries, e)
	p.dirSize += entrySize
	if e.Encoding == Delta {
		p.dirSize += BasesSize
	}
	return e, nil
}

// maxDirectory is where a writer's directory ends, in bytes of its plaintext: with
// a last entry, padding and tag it is still below MaxDirectory.
const maxDirectory = MaxDirectory * 7 / 8

// Full reports that the pack takes no further chunk, however small.
func (p *Writer) Full() bool { return p.dirSize >= maxDirectory }

// Size returns the bytes written so far.
func (p *Writer) Size() int { return p.size }

// Len returns the number of chunks appended so far.
func (p *Writer) Len() int { return len(p.entries) }

// Finished is a complete pack.
type Finished struct {
	ID      ID
	Kind    seal.Kind
	Size    int64
	Entries []Entry // in the order of their offsets
}

// Finish writes padding, directory and footer, and returns the pack's name. A
// pack must have a chunk.
func (p *Writer) Finish() (Finished, error) {
	if p.err != nil {
		return Finished{}, p.err
	}
	if len(p.entries) == 0 {
		return Finished{}, errors.New("pack has no chunks")
	}
	dir := appendDirectory(nil, p.entries)
	sealedSize := len(dir) + seal.Overhead
	bare := p.size + sealedSize + FooterSize
	if pad := paddedSize(bare) - bare; pad > 0 {
		n := nonce(uint32(p.size))
		zero := make([]byte, pad-seal.Overhead, pad) // sealed in place
		if err := p.write(p.aead.Seal(zero[:0], n[:], zero, []byte(paddingContext))); err != nil {
			return Finished{}, err
		}
	}
	tail := seal.SealOnce(make([]byte, 0, sealedSize+FooterSize), p.dirKey, dir, p.prefix)
	tail = binary.LittleEndian.AppendUint32(tail, uint32(sealedSize))
	tail = append(tail, footerMagic...)
	if err := p.write(tail); err != nil {
		return Finished{}, err
	}
	f := Finished{Kind: p.kind, Size: int64(p.size), Entries: p.entries}
	p.sum.Sum(f.ID[:0])
	p.err = errFinished
	return f, nil
}
