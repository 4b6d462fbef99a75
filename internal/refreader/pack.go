package refreader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"
)

// Sections 6 and 7: chunks and the packs that hold them.

// Chunk kinds, and the greatest length of a chunk's plaintext.
const (
	chunkData = 1
	chunkNode = 2
	chunkList = 3

	maxChunk = 16 << 20
)

// Encodings of a chunk.
const (
	encodingPlain = 0
	encodingZstd  = 1
	encodingDelta = 2
)

const (
	packKeyOffset = headerSize + saltSize
	packPreamble  = packKeyOffset + hpkeSecret // 1,248: the first frame's offset
	packTrailer   = 8
)

// A packRef names a pack: data/<aa>/<id> or meta/<aa>/<id>.
type packRef struct {
	kind byte // kindData or kindMeta
	id   ID
}

func (p packRef) String() string {
	dir := "data"
	if p.kind == kindMeta {
		dir = "meta"
	}
	s := p.id.String()
	return dir + "/" + s[:2] + "/" + s
}

// A frame says where and how a chunk is stored within a pack.
type frame struct {
	id       ID
	kind     uint8
	encoding uint8
	raw      uint32 // length of the plaintext
	offset   uint32
	stored   uint32 // length of the frame
	bases    [2]ID  // zero unless the encoding is 2; then the second may be
}

// check verifies what a pack's directory and an index segment both promise of a frame.
func (f frame) check(packKind byte) error {
	switch {
	case (packKind == kindData) != (f.kind == chunkData) || chunkKinds[f.kind] == "":
		return fmt.Errorf("chunk of kind %d in a pack of kind %q", f.kind, packKind)
	case f.encoding > encodingDelta:
		return fmt.Errorf("unknown encoding %d", f.encoding)
	case f.encoding == encodingDelta && f.kind != chunkData:
		return fmt.Errorf("a delta of kind %d", f.kind)
	case (f.bases[0] == ID{}) != (f.encoding != encodingDelta), f.bases[0] == ID{} && f.bases[1] != ID{}:
		return fmt.Errorf("encoding %d with bases %v", f.encoding, f.bases)
	case f.encoding == encodingDelta && (f.bases[0] == f.bases[1] || slices.Contains(f.bases[:], f.id)):
		return fmt.Errorf("a delta of itself, or twice of the same base")
	case f.raw < 1 || f.raw > maxChunk:
		return fmt.Errorf("chunk of %d bytes", f.raw)
	case f.stored < gcmTag+1:
		return fmt.Errorf("frame of %d bytes", f.stored)
	case f.encoding == encodingPlain && f.stored != f.raw+gcmTag:
		return fmt.Errorf("frame of %d bytes for %d bytes stored as they are", f.stored, f.raw)
	}
	return nil
}

// A pack is one whose name, size, directory and padding have been verified.
type pack struct {
	path   string
	keys   *realmKeys
	key    ID
	frames []frame
	at     map[uint32]frame // by offset
	zstd   *zstd.Decoder
}

// pack verifies the pack, all of it, and returns what is needed to read its frames.
func (r *Repo) pack(ref packRef) (*pack, error) {
	if p := r.packs[ref]; p != nil {
		return p, nil
	}
	p, err := r.openPack(ref)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", ref, err)
	}
	r.packs[ref] = p
	return p, nil
}

func (r *Repo) openPack(ref packRef) (*pack, error) {
	p := &pack{path: r.path(ref.String()), zstd: r.zstd}
	f, err := os.Open(p.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := blake3.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return nil, err
	}
	if finish(h, nil) != ref.id {
		return nil, errors.New("contents do not have the hash that is the name")
	}
	if size < packPreamble+packTrailer || size > math.MaxUint32 {
		return nil, fmt.Errorf("pack of %d bytes", size)
	}
	head, err := readAt(f, 0, packPreamble)
	if err != nil {
		return nil, err
	}
	hdr, err := parseHeader(head, ref.kind)
	if err != nil {
		return nil, err
	}
	if hdr.repo != r.config.repo {
		return nil, errOtherRepository
	}
	if p.keys, err = r.keysOf(hdr.realm); err != nil {
		return nil, err
	}
	start, err := p.readDirectory(f, head, ref.kind, size)
	if err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	salt := head[headerSize:packKeyOffset]
	key, err := openHPKE(r.private, head[packKeyOffset:], []byte("cairn v1 pack"), hdr.raw, salt)
	if err != nil {
		return nil, fmt.Errorf("pack key: %w", err)
	}
	p.key = ID(key)
	if err := p.checkPadding(f, start, size); err != nil {
		return nil, fmt.Errorf("padding: %w", err)
	}
	return p, nil
}

// readDirectory opens the directory and returns its offset.
func (p *pack) readDirectory(f io.ReaderAt, head []byte, kind byte, size int64) (start int64, err error) {
	trailer, err := readAt(f, size-packTrailer, packTrailer)
	if err != nil {
		return 0, err
	}
	if string(trailer[4:]) != "crnP" {
		return 0, errors.New("no magic at the end of the pack")
	}
	d := int64(binary.LittleEndian.Uint32(trailer))
	if d > 64<<20 {
		return 0, fmt.Errorf("a directory of %d bytes, more than any writer makes", d)
	}
	start = size - packTrailer - d
	if start < packPreamble {
		return 0, fmt.Errorf("%d bytes do not fit into the pack", d)
	}
	sealed, err := readAt(f, start, d)
	if err != nil {
		return 0, err
	}
	key := kdf("cairn v1 pack directory", p.keys.index[:], head[headerSize:packKeyOffset])
	plain, err := openAEAD(key, zeroNonce, head, sealed)
	if err != nil {
		return 0, err
	}
	if p.frames, err = parseDirectory(plain, kind); err != nil {
		return 0, err
	}
	p.at = make(map[uint32]frame, len(p.frames))
	for _, fr := range p.frames {
		p.at[fr.offset] = fr
	}
	return start, nil
}

// parseDirectory parses a directory's plaintext. Frames follow each other without gaps, so their
// offsets are sums.
func parseDirectory(plain []byte, packKind byte) ([]frame, error) {
	c := newCursor(plain)
	n := c.count(uint64(c.u32()), 32+1+1+4+4)
	c.require(n > 0, "no frames")
	offset := uint64(packPreamble)
	frames := make([]frame, 0, n)
	for range n {
		f := frame{id: c.id(), kind: c.u8(), encoding: c.u8(), raw: c.u32(), stored: c.u32(), offset: uint32(offset)}
		if f.encoding == encodingDelta {
			f.bases = [2]ID{c.id(), c.id()}
		}
		if c.err == nil {
			c.err = f.check(packKind)
		}
		offset += uint64(f.stored)
		c.require(offset <= math.MaxUint32, "pack of 4 GiB or more")
		frames = append(frames, f)
	}
	return frames, c.endPadded()
}

// packSize is the size that a pack with this many bytes other than padding must have.
func packSize(bare uint64) uint64 {
	size := padme(bare)
	if gap := size - bare; gap > 0 && gap < gcmTag {
		size = padme(bare + gcmTag)
	}
	return size
}

// checkPadding verifies what lies between the last frame and the directory, which begins at start.
func (p *pack) checkPadding(f io.ReaderAt, start, size int64) error {
	last := p.frames[len(p.frames)-1]
	offset := int64(last.offset) + int64(last.stored)
	n := start - offset
	if n < 0 {
		return errors.New("frames reach into the directory")
	}
	if want := packSize(uint64(size - n)); uint64(size) != want {
		return fmt.Errorf("pack has %d bytes, %d expected", size, want)
	}
	if n == 0 {
		return nil
	}
	sealed, err := readAt(f, offset, n)
	if err != nil {
		return err
	}
	plain, err := openAEAD(p.key, frameNonce(uint64(offset)), []byte("cairn v1 padding"), sealed)
	if err != nil {
		return err
	}
	if !isZero(plain) {
		return errors.New("not zero")
	}
	return nil
}

// frameNonce is unique under a pack's key, since offsets grow.
func frameNonce(offset uint64) (nonce [12]byte) {
	binary.LittleEndian.PutUint64(nonce[4:], offset)
	return nonce
}

// read returns the plaintext of the chunk in frame f. If that is a delta, whole gives it its bases.
func (p *pack) read(f frame, whole func(ID) ([]byte, error)) ([]byte, error) {
	if p.at[f.offset] != f {
		return nil, errors.New("the pack's directory has no such frame")
	}
	file, err := os.Open(p.path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	sealed, err := readAt(file, int64(f.offset), int64(f.stored))
	if err != nil {
		return nil, err
	}
	ad := append(f.id[:len(f.id):len(f.id)], f.kind, f.encoding)
	ad = append(append(append(ad, le32(f.raw)...), f.bases[0][:]...), f.bases[1][:]...)
	encoded, err := openAEAD(p.key, frameNonce(uint64(f.offset)), ad, sealed)
	if err != nil {
		return nil, fmt.Errorf("open frame: %w", err)
	}
	plain, err := p.decode(encoded, f, whole)
	if err != nil {
		return nil, err
	}
	if uint64(len(plain)) != uint64(f.raw) {
		return nil, fmt.Errorf("plaintext has %d bytes, not %d", len(plain), f.raw)
	}
	if keyed(p.keys.chunkID[f.kind], plain) != f.id {
		return nil, errors.New("plaintext does not have the chunk's ID")
	}
	return plain, nil
}

func (p *pack) decode(encoded []byte, f frame, whole func(ID) ([]byte, error)) ([]byte, error) {
	switch f.encoding {
	case encodingPlain:
		return encoded, nil
	case encodingZstd:
		if err := oneFrame(encoded); err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return p.zstd.DecodeAll(encoded, make([]byte, 0, f.raw))
	}
	var bases [][]byte
	for _, id := range f.bases {
		if id == (ID{}) {
			continue
		}
		plain, err := whole(id)
		if err != nil {
			return nil, fmt.Errorf("base %v: %w", id, err)
		}
		bases = append(bases, plain)
	}
	if err := oneFrame(encoded); err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	instructions, err := p.zstd.DecodeAll(encoded, nil)
	if err != nil {
		return nil, err
	}
	return applyDelta(instructions, f.raw, bases)
}

// oneFrame verifies that b is one zstd frame with nothing behind it (RFC 8878, section 3.1.1); a
// decoder by itself accepts any number of frames.
func oneFrame(b []byte) error {
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		return err
	}
	if h.Skippable || h.DictionaryID != 0 {
		return errors.New("not a frame of its own")
	}
	c := newCursor(b)
	c.take(uint64(h.HeaderSize))
	for last := false; !last && c.err == nil; {
		p := c.fixed(3)
		v := uint64(p[0]) | uint64(p[1])<<8 | uint64(p[2])<<16
		last = v&1 == 1
		n := v >> 3
		if v>>1&3 == 1 { // RLE: one byte, repeated n times
			n = 1
		}
		c.take(n)
	}
	if h.HasCheckSum {
		c.take(4)
	}
	return c.end()
}

func readAt(f io.ReaderAt, offset, n int64) ([]byte, error) {
	b := make([]byte, n)
	if _, err := f.ReadAt(b, offset); err != nil {
		return nil, fmt.Errorf("read %d bytes at %d: %w", n, offset, err)
	}
	return b, nil
}
