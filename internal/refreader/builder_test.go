package refreader

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/crypto/argon2"
)

// A builder writes a small repository by the document, honestly signed and sealed throughout. Its
// hooks break single rules, before hashes and signatures are made.
type builder struct {
	t               *testing.T
	dir             string
	zstd            *zstd.Encoder
	admin, writer   ed25519.PrivateKey
	private         hpke.PrivateKey
	repo            ID
	keys            *realmKeys
	signers         map[byte]ed25519.PrivateKey // by kind; admin if not there
	editLeaves      func(leaves [][]Entry)
	editChildren    func(children []child)
	editSegment     func(s *segment)
	editConfigOrder bool                                 // swap the writers
	editPlain       func(kind byte, plain []byte) []byte // a section's padded plaintext
	editChunk       func(plain []byte) []byte            // of data chunks, after their ID is made
	extraPadding    int                                  // of packs
	inLease         bool                                 // the manifest is in a lease's end only

	packs []listedPack
	homes []location
	want  map[string]string // contents by path, "directory" for a directory
}

const testPassphrase = "correct horse"

// testRealm is the only epoch of the only domain.
var testRealm = realm{epoch: 1}

func seal(t *testing.T, key ID, nonce [12]byte, ad, plain []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key[:])
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return gcm.Seal(nil, nonce[:], plain, ad)
}

// newEncoder returns an encoder for chunks, in little memory.
func newEncoder(t *testing.T) *zstd.Encoder {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<16), zstd.WithLowerEncoderMem(true))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func (b *builder) hpke(to hpke.PrivateKey, plain []byte, info ...[]byte) []byte {
	b.t.Helper()
	m, err := hpke.Seal(to.PublicKey(), hpke.HKDFSHA256(), hpke.AES256GCM(), slices.Concat(info...), plain)
	if err != nil {
		b.t.Fatal(err)
	}
	return m
}

func (b *builder) header(kind byte) []byte {
	e := enc("cairn\x00")
	e.put([]byte{kind, 1}, b.repo[:])
	if kind == kindConfig || kind == kindSlot || kind == kindTombstone || kind == kindCondemned {
		e.u64(0)
	} else {
		e.u32(testRealm.epoch)
		e.u32(testRealm.domain)
	}
	return e
}

func (b *builder) section(kind byte, plain []byte) []byte {
	if b.editPlain != nil {
		plain = b.editPlain(kind, plain)
	}
	ad := b.header(kind)
	if kind == kindConfig {
		binary.LittleEndian.PutUint32(ad[40:], testRealm.epoch)
	}
	salt := random(saltSize)
	return append(salt, seal(b.t, kdf("cairn v1 section", b.keys.index[:], salt), zeroNonce, ad, plain)...)
}

func (b *builder) sign(kind byte, body []byte) []byte {
	key := b.signers[kind]
	if key == nil {
		key = b.admin
	}
	o := append(b.header(kind), body...)
	public := key.Public().(ed25519.PublicKey)
	digest := hash(o, public)
	signature := ed25519.Sign(key, append([]byte("cairn v1 signature\x00"), digest[:]...))
	return slices.Concat(o, public, signature)
}

func (b *builder) write(name string, object []byte) {
	b.t.Helper()
	path := filepath.Join(b.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, object, 0o666); err != nil {
		b.t.Fatal(err)
	}
}

// writeNamed writes an object whose name is its ID.
func (b *builder) writeNamed(folder string, object []byte) ID {
	b.t.Helper()
	id := hash(object)
	b.write(folder+"/"+id.String(), object)
	return id
}

func (b *builder) writeSlot(slotSeed, repoSeed []byte) ID {
	salt := random(saltSize)
	m := argon2.IDKey([]byte(testPassphrase), salt, 1, 16, 2, 32)
	body := enc{slotPassphrase, accessFull}
	body.put(salt)
	body.u32(1)
	body.u32(16)
	body.u8(2)
	body.id(kdf("cairn v1 slot commitment", m))
	bundle := slices.Concat([]byte{1, accessFull}, slotSeed, b.admin.Seed(), repoSeed)
	body.put(seal(b.t, kdf("cairn v1 slot wrap", m), zeroNonce, append(b.header(kindSlot), body...), bundle))
	return b.writeNamed("keys", b.sign(kindSlot, body))
}

// writeConfig makes all keys, and writes the slot and config.
func (b *builder) writeConfig() {
	newKey := func(seed []byte) hpke.PrivateKey {
		k, err := hpke.MLKEM768X25519().NewPrivateKey(seed)
		if err != nil {
			b.t.Fatal(err)
		}
		return k
	}
	slotSeed, repoSeed, secret := random(32), random(32), random(32)
	b.admin = ed25519.NewKeyFromSeed(random(32))
	slotKey := newKey(slotSeed)
	b.private = newKey(repoSeed)
	b.keys = deriveKeys(secret)
	admin := b.admin.Public().(ed25519.PublicKey)
	b.repo = hash([]byte("cairn v1 repository\x00"), admin, b.private.PublicKey().Bytes())
	slot := b.writeSlot(slotSeed, repoSeed)

	var body enc
	body.u64(1)
	body.i64(1)
	body.uvarint(0) // features
	body.put(admin, b.private.PublicKey().Bytes())
	body.u8(1)
	body.u32(1 << 18)
	body.u32(1 << 20)
	body.u32(1 << 22)
	body.u8(1)
	body.u32(16 << 20)

	body.uvarint(1)
	body.id(slot)
	body.put([]byte{slotPassphrase, accessFull})
	body.u32(0)
	body.put(slotKey.PublicKey().Bytes(), admin)

	writers := [][]byte{b.writer.Public().(ed25519.PublicKey), bytes.Repeat([]byte{0xff}, 32)}
	if b.editConfigOrder {
		slices.Reverse(writers)
	}
	body.uvarint(2)
	for _, w := range writers {
		body.put(w)
		body.u32(0)
		body.u32(1)
		body.u32(0xffffffff)
	}

	body.uvarint(1)
	body.u32(testRealm.epoch)
	body.u32(testRealm.domain)
	body.uvarint(1)
	body.id(slot)
	body.put(b.hpke(slotKey, secret, []byte("cairn v1 epoch secret"), b.repo[:], le32(testRealm.epoch), le32(testRealm.domain)))

	var labels enc
	labels.uvarint(1)
	labels.id(slot)
	labels.i64(1)
	labels.text("laptop")
	body.bytes(b.section(kindConfig, labels.padded()))
	b.write("config", b.sign(kindConfig, body))
}

func (b *builder) chunkID(kind uint8, plain []byte) ID { return keyed(b.keys.chunkID[kind], plain) }

// writePack writes chunks, compressed where that makes them shorter.
func (b *builder) writePack(packKind byte, kinds []uint8, chunks [][]byte) {
	salt, key := random(saltSize), ID(random(32))
	p := append(b.header(packKind), salt...)
	p = append(p, b.hpke(b.private, key[:], []byte("cairn v1 pack"), b.header(packKind), salt)...)
	preamble := bytes.Clone(p)
	var frames []frame
	for i, plain := range chunks {
		f := frame{id: b.chunkID(kinds[i], plain), kind: kinds[i], raw: uint32(len(plain)), offset: uint32(len(p))}
		if b.editChunk != nil && packKind == kindData {
			plain = b.editChunk(bytes.Clone(plain))
		}
		if short := b.zstd.EncodeAll(plain, nil); len(short) < len(plain) {
			f.encoding, plain = encodingZstd, short
		}
		ad := slices.Concat(f.id[:], []byte{f.kind, f.encoding}, le32(f.raw), make([]byte, 64))
		sealed := seal(b.t, key, frameNonce(uint64(f.offset)), ad, plain)
		f.stored = uint32(len(sealed))
		p = append(p, sealed...)
		frames = append(frames, f)
	}
	directory := encodeDirectory(frames)
	bare := uint64(len(p) + len(directory) + gcmTag + packTrailer)
	if gap := int(packSize(bare)-bare) + b.extraPadding; gap > 0 {
		p = append(p, seal(b.t, key, frameNonce(uint64(len(p))), []byte("cairn v1 padding"), make([]byte, gap-gcmTag))...)
	}
	p = append(p, seal(b.t, kdf("cairn v1 pack directory", b.keys.index[:], salt), zeroNonce, preamble, directory)...)
	p = append(p, le32(uint32(len(directory)+gcmTag))...)
	p = append(p, "crnP"...)

	ref := packRef{packKind, hash(p)}
	b.write(ref.String(), p)
	b.packs = append(b.packs, listedPack{ref, uint64(len(p))})
	for _, f := range frames {
		b.homes = append(b.homes, location{ref, f})
	}
}

func (b *builder) writeSegment() {
	s := segment{packs: b.packs, entries: b.homes}
	slices.SortFunc(s.packs, func(x, y listedPack) int { return bytes.Compare(x.id[:], y.id[:]) })
	slices.SortFunc(s.entries, func(x, y location) int { return bytes.Compare(x.id[:], y.id[:]) })
	if b.editSegment != nil {
		b.editSegment(&s)
	}
	b.writeNamed("index", b.sign(kindSegment, b.section(kindSegment, encodeSegment(s))))
}

// writeTree writes packs with a tree of two leaves, and returns its root, which is at level 1.
func (b *builder) writeTree() ID {
	bundle := random(1000)
	text := bytes.Repeat([]byte("all work and no play "), 3000)
	noise := random(40000)
	chunks := [][]byte{bundle, text, noise}
	ids := make([]ID, len(chunks))
	for i, c := range chunks {
		ids[i] = b.chunkID(chunkData, c)
	}
	whole := func(i int) Extent {
		n := uint64(len(chunks[i]))
		return Extent{Chunk: ids[i], Length: n, ChunkSize: n}
	}
	part := func(offset, length uint64) Extent {
		return Extent{Chunk: ids[0], Part: true, Offset: offset, Length: length, ChunkSize: 1000}
	}
	hole := Extent{Length: hashByExtents}

	lists := []listNode{
		{items: []Extent{whole(1), hole}},
		{items: []Extent{whole(2), whole(1)}},
	}
	top := listNode{level: 1}
	var meta [][]byte
	for _, l := range lists {
		raw := encodeListNode(l)
		meta = append(meta, raw)
		top.items = append(top.items, Extent{Chunk: b.chunkID(chunkList, raw), Length: l.items[0].Length + l.items[1].Length})
	}
	meta = append(meta, encodeListNode(top))
	listed := slices.Concat(lists[0].items, lists[1].items)

	contents := func(extents []Extent) string {
		var out []byte
		for _, x := range extents {
			if x.ChunkSize == 0 {
				out = append(out, make([]byte, x.Length)...)
			} else {
				out = append(out, chunks[slices.Index(ids, x.Chunk)][x.Offset:x.Offset+x.Length]...)
			}
		}
		return string(out)
	}
	b.want = make(map[string]string)
	file := func(key string, extents ...Extent) Entry {
		data := contents(extents)
		b.want[keyPath(key)] = data
		return Entry{Key: key, Type: File, Size: uint64(len(data)), Extents: extents, ContentHash: b.contentHash(data, extents)}
	}
	dir := func(key string) Entry { b.want[keyPath(key)] = "directory"; return Entry{Key: key, Type: Directory} }
	big := file("\x00etc\x00big", listed...)
	big.Extents, big.List = nil, &ListRef{b.chunkID(chunkList, meta[2]), 1}

	leaves := [][]Entry{
		{dir(""), dir("\x00etc"), file("\x00etc\x00a", part(0, 400)), file("\x00etc\x00b", part(400, 600)), big},
		{file("\x00etc\x00empty"), file("\x00etc\x00sparse", whole(1), hole, whole(2)), file("\x00holes", part(3, 4), Extent{Length: 9}),
			file("\x00whole", whole(0)), dir("stdin"), file("stdin\x00dump", whole(2))},
	}
	if b.editLeaves != nil {
		b.editLeaves(leaves)
	}
	root := node{level: 1}
	for _, entries := range leaves {
		raw := encodeNode(node{entries: entries})
		meta = append(meta, raw)
		c := child{first: entries[0].Key, id: b.chunkID(chunkNode, raw), entries: uint64(len(entries))}
		for _, e := range entries {
			c.bytes += e.Size
		}
		root.children = append(root.children, c)
	}
	if b.editChildren != nil {
		b.editChildren(root.children)
	}
	meta = append(meta, encodeNode(root))
	b.writePack(kindData, []uint8{chunkData, chunkData, chunkData}, chunks)
	b.writePack(kindMeta, []uint8{chunkList, chunkList, chunkList, chunkNode, chunkNode, chunkNode}, meta)
	return b.chunkID(chunkNode, meta[5])
}

func (b *builder) contentHash(data string, extents []Extent) [16]byte {
	x := enc{0}
	x.put([]byte(data))
	if len(data) >= hashByExtents {
		x = enc{1}
		for _, e := range extents {
			x.id(e.Chunk)
			x.u64(e.Length)
		}
	}
	sum := keyed(b.keys.contentHash, x)
	return [16]byte(sum[:16])
}

func (b *builder) manifest(root ID) []byte {
	section := b.section(kindManifest, encodeOpenPart(OpenPart{Time: 5, Host: "db1"}))
	digest := hash(section)
	var body enc
	body.u32(uint32(len(section)))
	body.put(section, b.hpke(b.private, encodeClosedPart(ClosedPart{Root: root, RootLevel: 1, Set: "app"}),
		[]byte("cairn v1 manifest"), b.header(kindManifest), digest[:]))
	return b.sign(kindManifest, body)
}

func (b *builder) writeLease(manifest []byte) {
	lease := ID(random(32))
	folder := "leases/" + lease.String() + "/"
	begin := enc(lease[:])
	begin.i64(1)
	begin.text("db1")
	begin.uvarint(4711)
	beat := enc(lease[:])
	beat.uvarint(1)
	beat.i64(2)
	end := enc(lease[:])
	end.i64(3)
	end.u8(outcomeCommitted)
	end.bytes(manifest)
	b.write(folder+"begin", b.sign(kindBegin, b.section(kindBegin, begin.padded())))
	b.write(folder+"beat-1", b.sign(kindBeat, b.section(kindBeat, beat.padded())))
	b.write(folder+"end", b.sign(kindEnd, b.section(kindEnd, end.padded())))
}

// writeCondemned condemns all packs.
func (b *builder) writeCondemned(phase uint8) {
	var e enc
	e.u64(1)
	e.u8(phase)
	e.uvarint(uint64(len(b.packs)))
	packs := slices.Clone(b.packs)
	slices.SortFunc(packs, func(x, y listedPack) int { return int(x.kind) - int(y.kind) })
	for _, p := range packs {
		e.u8(p.kind)
		e.id(p.id)
	}
	e.uvarint(0)
	b.write("condemned", b.sign(kindCondemned, e))
}

func (b *builder) writeTombstone(snapshot ID) {
	var e enc
	e.i64(1)
	e.uvarint(1)
	e.id(snapshot)
	e.uvarint(0)
	b.writeNamed("tombstones", b.sign(kindTombstone, e))
}

// build writes the whole repository and returns the ID of its snapshot.
func (b *builder) build(t *testing.T) ID {
	t.Helper()
	b.t, b.dir, b.zstd = t, t.TempDir(), newEncoder(t)
	if b.writer == nil {
		b.writer = ed25519.NewKeyFromSeed(random(32))
	}
	b.writeConfig()
	root := b.writeTree()
	b.writeSegment()
	manifest := b.manifest(root)
	b.writeLease(manifest)
	if !b.inLease {
		b.writeNamed("snapshots", manifest)
	}
	return hash(manifest)
}
