package snapshot_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// Each fuzz target checks that what a parser accepts encodes to the same bytes
// again. Seeds are valid encodings.

func FuzzLeaf(f *testing.F) {
	r := seeded(1)
	for n := range 6 {
		p, err := (&snapshot.Leaf{Entries: r.entries(n * n)}).Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	var leaf snapshot.Leaf
	f.Fuzz(func(t *testing.T, p []byte) {
		if leaf.Decode(p) != nil {
			return
		}
		again, err := leaf.Append(nil)
		if err != nil || !bytes.Equal(again, p) {
			t.Errorf("%x\nencodes to\n%x, %v", p, again, err)
		}
		for i := range leaf.Entries {
			if err := leaf.Entries[i].Validate(); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzInner(f *testing.F) {
	r := seeded(1)
	for n := range 4 {
		inner := snapshot.Inner{Level: uint8(n + 1)}
		for _, e := range r.entries(n * 5) {
			inner.Children = append(inner.Children, snapshot.Child{Key: e.Key, ID: r.id(), Entries: 1 + e.Inode, Bytes: e.Size})
		}
		p, err := inner.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) == 0 {
			return
		}
		var inner snapshot.Inner
		if inner.Decode(p, p[0]) != nil {
			return
		}
		if again, err := inner.Append(nil); err != nil || !bytes.Equal(again, p) {
			t.Errorf("%x\nencodes to\n%x, %v", p, again, err)
		}
	})
}

func FuzzListNode(f *testing.F) {
	r := seeded(1)
	for n := range 4 {
		node := snapshot.ListNode{Level: uint8(n % 2)}
		list, _ := r.list(1 + n*n)
		for _, x := range list {
			if node.Level == 0 || !x.IsHole() {
				node.Items = append(node.Items, snapshot.ListItem{ID: x.Chunk, Length: x.Length})
			}
		}
		p, err := node.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) == 0 {
			return
		}
		var node snapshot.ListNode
		if node.Decode(p, p[0]) != nil {
			return
		}
		if again, err := node.Append(nil); err != nil || !bytes.Equal(again, p) {
			t.Errorf("%x\nencodes to\n%x, %v", p, again, err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	open := sampleOpen()
	f.Add(open.Encode())
	f.Add((&snapshot.Open{}).Encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		o, err := snapshot.ParseOpen(p)
		if err != nil {
			return
		}
		if again := o.Encode(); !bytes.Equal(again, p) {
			t.Errorf("%x\nencodes to\n%x", p, again)
		}
	})
}

func FuzzBody(f *testing.F) {
	body := sampleBody()
	f.Add(body.Encode())
	f.Add((&snapshot.Body{Root: snapshot.Root{ID: [32]byte{1}}}).Encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		b, err := snapshot.ParseBody(p)
		if err != nil {
			return
		}
		if again := b.Encode(); !bytes.Equal(again, p) {
			t.Errorf("%x\nencodes to\n%x", p, again)
		}
	})
}

// FuzzManifest opens any bytes with a good signature at their end: as far as a
// hostile writer gets. What opens has parts that encode to the same bytes.
func FuzzManifest(f *testing.F) {
	r := newRepository(f)
	object := r.seal(f, snapshot.Manifest{Header: r.header, Open: sampleOpen(), Body: sampleBody()})
	if _, err := snapshot.OpenManifest(object, r.ring); err != nil {
		f.Fatal(err)
	}
	f.Add(object[:len(object)-seal.SignatureSize])
	f.Fuzz(func(t *testing.T, unsigned []byte) {
		object := seal.AppendSignature(bytes.Clone(unsigned), r.signing)
		s, err := snapshot.OpenManifest(object, r.ring)
		if err != nil {
			return
		}
		if o, err := snapshot.ParseOpen(s.Open.Encode()); err != nil || !reflect.DeepEqual(*o, s.Open) {
			t.Errorf("open part %+v does not encode: %v", s.Open, err)
		}
		if b, err := s.OpenBody(r.private); err == nil {
			if again, err := snapshot.ParseBody(b.Encode()); err != nil || !reflect.DeepEqual(again, b) {
				t.Errorf("closed part %+v does not encode: %v", b, err)
			}
		}
	})
}

func FuzzKeyOf(f *testing.F) {
	for _, path := range []string{"/", "/srv/x", "stdin/dump", "/\xff/\x01"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		k, err := snapshot.KeyOf(path)
		if err != nil {
			return
		}
		if again, err := snapshot.KeyOf(k.Path()); err != nil || again != k {
			t.Errorf("%q is %q, whose path %q is %q, %v", path, k, k.Path(), again, err)
		}
	})
}
