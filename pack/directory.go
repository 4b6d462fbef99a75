package pack

import (
	"encoding/binary"
	"fmt"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/wire"
	"github.com/cairn-backup/cairn/seal"
)

// appendDirectory encodes entries as a directory's plaintext, padded.
func appendDirectory(b []byte, entries []Entry) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(entries)))
	for _, e := range entries {
		b = append(b, e.ID[:]...)
		b = append(b, byte(e.Kind), byte(e.Encoding))
		b = binary.LittleEndian.AppendUint32(b, e.Raw)
		b = binary.LittleEndian.AppendUint32(b, e.Stored)
		if e.Encoding == Delta {
			b = e.Bases.Append(b)
		}
	}
	return append(b, make([]byte, seal.Padme(len(b))-len(b))...)
}

// parseDirectory reads a directory's plaintext and works out the offsets.
func parseDirectory(p []byte, kind seal.Kind) ([]Entry, error) {
	d := wire.NewDecoder(p)
	n := d.Count32(entrySize)
	if n == 0 {
		d.Fail("directory without chunks")
	}
	entries := make([]Entry, 0, n)
	offset := uint64(PrefixSize)
	for range n {
		e := Entry{ID: d.Array32(), Kind: chunk.Kind(d.U8()), Encoding: Encoding(d.U8()), Raw: d.U32(), Stored: d.U32()}
		if e.Encoding == Delta {
			e.Bases = Bases{d.Array32(), d.Array32()}
		}
		if offset+uint64(e.Stored) > MaxSize {
			d.Fail("frames reach beyond 4 GiB")
		}
		e.Offset = uint32(offset)
		offset += uint64(e.Stored)
		if d.Err() != nil {
			break
		}
		if err := e.Validate(kind); err != nil {
			d.Fail("%v", err)
		}
		entries = append(entries, e)
	}
	if err := d.FinishPadded(len(p), seal.Padme); err != nil {
		return nil, err
	}
	return entries, nil
}

// DirectoryStart returns where the directory of a pack begins, from the pack's
// size and its last bytes (FooterSize or more).
func DirectoryStart(size int64, tail []byte) (int64, error) {
	if size < PrefixSize+FooterSize || size > MaxSize || len(tail) < FooterSize {
		return 0, fmt.Errorf("pack of %d bytes is %w: impossible size", size, seal.ErrDamaged)
	}
	f := tail[len(tail)-FooterSize:]
	if string(f[4:]) != footerMagic {
		return 0, fmt.Errorf("pack is %w: no footer at its end", seal.ErrDamaged)
	}
	length := binary.LittleEndian.Uint32(f)
	if length > MaxDirectory {
		return 0, fmt.Errorf("pack is %w: a directory of %d bytes", seal.ErrDamaged, length)
	}
	start := size - FooterSize - int64(length)
	if start < PrefixSize+minFrame || start > size-FooterSize-seal.Overhead-4 {
		return 0, fmt.Errorf("pack is %w: its directory cannot start at %d", seal.ErrDamaged, start)
	}
	return start, nil
}

// OpenDirectory returns the entries of a pack, in the order of their offsets,
// from its prefix (the first PrefixSize bytes), the sealed directory (from
// DirectoryStart to the footer) and the size of the whole. The directory is
// authenticated together with the prefix; the frames are not looked at.
func OpenDirectory(prefix, directory []byte, size int64, kind seal.Kind, ring *seal.Keyring) ([]Entry, error) {
	h, keys, err := openPrefix(prefix, kind, ring)
	if err != nil {
		return nil, err
	}
	salt := [seal.SaltSize]byte(prefix[seal.HeaderSize:])
	p, err := seal.OpenOnce(keys.DirectoryKey(salt), directory, prefix[:PrefixSize])
	if err != nil {
		return nil, fmt.Errorf("directory of %s is %w", h.Kind, err)
	}
	entries, err := parseDirectory(p, h.Kind)
	if err != nil {
		return nil, fmt.Errorf("directory of %s is %w: %w", h.Kind, seal.ErrDamaged, err)
	}
	last := entries[len(entries)-1]
	pad := size - FooterSize - int64(len(directory)) - int64(last.Offset) - int64(last.Stored)
	if bare := size - pad; pad < 0 || int64(paddedSize(int(bare))) != size {
		return nil, fmt.Errorf("%s is %w: %d bytes between frames and directory", h.Kind, seal.ErrDamaged, pad)
	}
	return entries, nil
}

// openPrefix checks the header of a pack and finds the keys of its place.
func openPrefix(prefix []byte, kind seal.Kind, ring *seal.Keyring) (seal.Header, *seal.Keys, error) {
	h, err := seal.ParseHeader(prefix, kind)
	if err != nil {
		return h, nil, err
	}
	if err := h.Check(ring.Repository); err != nil {
		return h, nil, err
	}
	if len(prefix) < PrefixSize {
		return h, nil, fmt.Errorf("%s of %d bytes is %w: too short", kind, len(prefix), seal.ErrDamaged)
	}
	keys, ok := ring.Keys(h.Place)
	if !ok {
		return h, nil, fmt.Errorf("%s of %s: %w", kind, h.Place, seal.ErrNoKey)
	}
	return h, keys, nil
}
