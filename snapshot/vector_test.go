package snapshot_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

var update = flag.Bool("update", false, "write the vectors in testdata anew")

// sampleLeaf has an entry of every type, and extents of every form.
func sampleLeaf() *snapshot.Leaf {
	at := func(sec int64, nsec uint32) snapshot.Time { return snapshot.Time{Sec: sec, Nsec: nsec} }
	bundle, large := chunk.ID{0xb0}, chunk.ID{0xc0}
	part := func(offset uint32, n uint64) snapshot.Extent {
		return snapshot.Extent{Chunk: bundle, ChunkSize: 5000, Offset: offset, Length: n}
	}
	base := func(path string, typ snapshot.Type) snapshot.Entry {
		return snapshot.Entry{Key: key(path), Type: typ, Mode: 0o644, UID: 1000, GID: 100, User: "ann", Group: "users", Mtime: at(1_700_000_000, 5), Ctime: at(1_700_000_001, 4), Inode: 77}
	}
	root, dir := base("/", snapshot.Directory), base("/d", snapshot.Directory)
	root.UID, root.GID, root.User, root.Group, root.Mode = 0, 0, "root", "", 0o1755
	block, char, fifo, link, socket := base("/d/block", snapshot.BlockDevice), base("/d/char", snapshot.CharDevice), base("/d/fifo", snapshot.FIFO), base("/d/link", snapshot.Symlink), base("/d/socket", snapshot.Socket)
	block.Device, char.Device, link.Target = 0x801, 0x103, []byte("../x")
	empty, first, second, sparse, listed := base("/d/f-empty", snapshot.File), base("/d/f1", snapshot.File), base("/d/f2", snapshot.File), base("/d/f3", snapshot.File), base("/d/f4", snapshot.File)
	first.Size, first.Hash, first.Extents = 100, [16]byte{1}, []snapshot.Extent{part(0, 100)}
	first.HasLink, first.Link, first.Inode = true, 7, 1<<64-1
	second.Size, second.Hash, second.Extents = 50, [16]byte{2}, []snapshot.Extent{part(100, 50)}
	second.Xattrs = []snapshot.Xattr{{Name: "user.a", Value: []byte{}}, {Name: "user.b", Value: []byte{0xff}}}
	sparse.Size, sparse.Hash, sparse.Partial = 4096+300+40+20, [16]byte{3}, true
	sparse.Extents = []snapshot.Extent{{Length: 4096}, {Chunk: large, ChunkSize: 300, Length: 300}, part(150, 40), part(10, 20)}
	listed.Size, listed.Hash, listed.List, listed.Mtime = 1<<40, [16]byte{4}, &snapshot.ListRef{Root: chunk.ID{0x11}, Level: 1}, at(-1, 999_999_999)
	return &snapshot.Leaf{Entries: []snapshot.Entry{root, dir, block, char, empty, first, second, sparse, listed, fifo, link, socket}}
}

func sampleInner() *snapshot.Inner {
	return &snapshot.Inner{Level: 2, Children: []snapshot.Child{
		{Key: "", ID: chunk.ID{1}, Entries: 300, Bytes: 1 << 33}, {Key: key("/srv/a"), ID: chunk.ID{2}, Entries: 1, Bytes: 0},
		{Key: key("/srv/a/b"), ID: chunk.ID{3}, Entries: 127, Bytes: 128}, {Key: key("stdin/dump"), ID: chunk.ID{4}, Entries: 1, Bytes: 1},
	}}
}

func sampleLists() (leaf, inner *snapshot.ListNode) {
	leaf = &snapshot.ListNode{Items: []snapshot.ListItem{{ID: chunk.ID{1}, Length: 1 << 20}, {Length: 1 << 40}, {ID: chunk.ID{2}, Length: 1}}}
	inner = &snapshot.ListNode{Level: 1, Items: []snapshot.ListItem{{ID: chunk.ID{3}, Length: 1 << 41}, {ID: chunk.ID{4}, Length: 5}}}
	return leaf, inner
}

// The bytes of nodes and manifests are as they always were. The vectors are
// text, for readers in other languages: see the first lines of each.
func TestVectors(t *testing.T) {
	encode := func(n interface{ Append([]byte) ([]byte, error) }) []byte {
		p, err := n.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	list, inner := sampleLists()
	open, body := sampleOpen(), sampleBody()
	for name, v := range map[string]struct {
		comment string
		bytes   []byte
	}{
		"leaf":       {"a node of level 0 with an entry of every type, two owners, two chunks and every form of extent", encode(sampleLeaf())},
		"empty-leaf": {"the root of an empty tree", encode(&snapshot.Leaf{})},
		"inner":      {"a node of level 2 with four children", encode(sampleInner())},
		"list-leaf":  {"a list node of level 0: a chunk of 1 MiB, a hole of 1 TiB, a chunk of 1 byte", encode(list)},
		"list-inner": {"a list node of level 1 with two children", encode(inner)},
		"open":       {"the plaintext of a manifest's open part, padded", open.Encode()},
		"body":       {"the plaintext of a manifest's closed part, padded", body.Encode()},
	} {
		file := filepath.Join("testdata", name+".txt")
		if *update {
			writeVector(t, file, v.comment, v.bytes)
		}
		if got := readVector(t, file); !bytes.Equal(got, v.bytes) {
			t.Errorf("%s is\n%x, not\n%x", name, v.bytes, got)
		}
	}
	var leaf snapshot.Leaf
	if err := leaf.Decode(readVector(t, "testdata/leaf.txt")); err != nil || !reflect.DeepEqual(leaf.Entries, sampleLeaf().Entries) {
		t.Errorf("leaf decodes to %+v, %v", leaf.Entries, err)
	}
	var node snapshot.Inner
	if err := node.Decode(readVector(t, "testdata/inner.txt"), 2); err != nil || !reflect.DeepEqual(node.Children, sampleInner().Children) {
		t.Errorf("inner node decodes to %+v, %v", node.Children, err)
	}
}

// A manifest that was sealed long ago opens.
func TestManifestVector(t *testing.T) {
	const file = "testdata/manifest.txt"
	r := newRepository(t)
	if *update {
		m := snapshot.Manifest{Header: r.header, Open: sampleOpen(), Body: sampleBody()}
		writeVector(t, file, `a whole manifest: repository HPKE seed 07 00..., admin and signer Ed25519 seed 00...,
# epoch 2 of domain 1 with the epoch secret 05 00...; its parts are open.txt and body.txt`, r.seal(t, m))
	}
	object := readVector(t, file)
	s, err := snapshot.OpenManifest(object, r.ring)
	if err != nil {
		t.Fatal(err)
	}
	body, err := s.OpenBody(r.private)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s.Open, sampleOpen()) || !reflect.DeepEqual(*body, sampleBody()) {
		t.Errorf("manifest is %+v, %+v", s.Open, body)
	}
	// With the same random bytes, the section is the same.
	section, err := seal.SealSection(nil, rand.NewChaCha8([32]byte{}), r.keys, object[:seal.HeaderSize], readVector(t, "testdata/open.txt"))
	if err != nil || !bytes.Contains(object, section) {
		t.Errorf("the section is sealed otherwise: %v", err)
	}
}

func writeVector(t *testing.T, file, comment string, p []byte) {
	t.Helper()
	b := fmt.Appendf(nil, "# docs/format.md: %s\n", comment)
	for ; len(p) > 0; p = p[min(32, len(p)):] {
		b = fmt.Appendf(b, "%x\n", p[:min(32, len(p))])
	}
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// readVector reads lines of hexadecimal digits, and comments.
func readVector(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			digits.WriteString(strings.TrimSpace(line))
		}
	}
	p, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return p
}
