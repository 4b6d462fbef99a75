package seal_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cairn-backup/cairn/seal"
)

func header(kind seal.Kind) seal.Header {
	return seal.Header{Kind: kind, Repository: repositoryID, Place: place}
}

func TestHeader(t *testing.T) {
	b := header(seal.Segment).Append(nil)
	want := append([]byte("cairn\x00I\x01\x01\x02\x03"), make([]byte, 29)...)
	want = append(want, 2, 0, 0, 0, 7, 0, 0, 0)
	if !bytes.Equal(b, want) {
		t.Fatalf("got %x, want %x", b, want)
	}
	h, err := seal.ParseHeader(append(b, "more"...), seal.Segment)
	if err != nil || h != header(seal.Segment) {
		t.Errorf("came back as %+v, %v", h, err)
	}
	if err := h.Check(repositoryID); err != nil {
		t.Error(err)
	}
	if err := h.Check(seal.RepositoryID{4}); !errors.Is(err, seal.ErrForeign) {
		t.Errorf("in another repository: %v", err)
	}
}

func TestHeaderErrors(t *testing.T) {
	good := header(seal.Segment).Append(nil)
	change := func(at int, c byte) []byte {
		b := bytes.Clone(good)
		b[at] = c
		return b
	}
	for name, c := range map[string]struct {
		p    []byte
		want error
	}{
		"empty":         {nil, seal.ErrDamaged},
		"cut off":       {good[:seal.HeaderSize-1], seal.ErrDamaged},
		"other magic":   {change(5, 1), seal.ErrDamaged},
		"other kind":    {change(6, byte(seal.Manifest)), seal.ErrDamaged},
		"unknown kind":  {change(6, 'z'), seal.ErrDamaged},
		"version 0":     {change(7, 0), seal.ErrDamaged},
		"version 2":     {change(7, 2), seal.ErrNewer},
		"version 255":   {change(7, 255), seal.ErrNewer},
		"newer, cut":    {change(7, 2)[:seal.HeaderSize-1], seal.ErrDamaged},
		"foreign magic": {bytes.Repeat([]byte{'x'}, 100), seal.ErrDamaged},
	} {
		if h, err := seal.ParseHeader(c.p, seal.Segment); !errors.Is(err, c.want) || h != (seal.Header{}) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	for _, k := range []seal.Kind{seal.Config, seal.DataPack, seal.Condemned} {
		f.Add(header(k).Append(nil), byte(k))
	}
	f.Fuzz(func(t *testing.T, p []byte, kind byte) {
		h, err := seal.ParseHeader(p, seal.Kind(kind))
		if err != nil {
			return
		}
		if again := h.Append(nil); !bytes.HasPrefix(p, again) {
			t.Fatalf("%x was read, %x encodes it", p, again)
		}
	})
}
