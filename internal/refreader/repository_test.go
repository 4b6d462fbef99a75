package refreader

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// readAll reads and verifies everything, and returns contents by path.
func readAll(dir string, open func(string, []byte) (*Repo, error)) (map[string]string, error) {
	r, err := open(dir, []byte(testPassphrase))
	if err != nil {
		return nil, err
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	snapshots, err := r.Snapshots()
	if err != nil {
		return nil, err
	}
	got := make(map[string]string)
	for _, s := range snapshots {
		err := r.Walk(s, func(path string, e Entry) error {
			if e.Type == Directory {
				got[path] = "directory"
				return nil
			}
			var b bytes.Buffer
			err := r.ReadFile(e, &b)
			got[path] = b.String()
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return got, nil
}

var opens = map[string]func(string, []byte) (*Repo, error){"segments": Open, "directories": OpenDirectories}

func TestRead(t *testing.T) {
	writer := ed25519.NewKeyFromSeed(random(32))
	for name, b := range map[string]*builder{
		"admin": {},
		"writer": {writer: writer, signers: map[byte]ed25519.PrivateKey{
			kindManifest: writer, kindSegment: writer, kindBegin: writer, kindBeat: writer, kindEnd: writer}},
		"lease only": {inLease: true},
	} {
		b.build(t)
		for how, open := range opens {
			got, err := readAll(b.dir, open)
			if err != nil {
				t.Errorf("%s by %s: %v", name, how, err)
			} else if !maps.Equal(got, b.want) {
				t.Errorf("%s by %s: contents differ", name, how)
			}
		}
	}
}

func TestPassphrase(t *testing.T) {
	var b builder
	b.build(t)
	if _, err := Open(b.dir, []byte("wrong")); !errors.Is(err, ErrPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
}

func TestTombstoneWins(t *testing.T) {
	var b builder
	b.writeTombstone(b.build(t))
	got, err := readAll(b.dir, Open)
	if err != nil || len(got) != 0 {
		t.Errorf("%d entries of a forgotten snapshot, %v", len(got), err)
	}
}

func TestCondemned(t *testing.T) {
	for phase, want := range map[uint8]string{
		phaseAnnounced: "", phaseWaiting: "", phaseFinal: "in no pack", phaseEmpty: "phase is empty", phaseFinal + 1: "unknown phase",
	} {
		var b builder
		b.build(t)
		b.writeCondemned(phase)
		for how, open := range opens {
			_, err := readAll(b.dir, open)
			if got := fmt.Sprint(err); want == "" && err != nil || want != "" && !strings.Contains(got, want) {
				t.Errorf("phase %d by %s: %v, want %q", phase, how, err, want)
			}
		}
	}
}

func TestSegmentIsAHint(t *testing.T) {
	gone := packRef{kindData, sampleID(0)}
	b := builder{editSegment: func(s *segment) {
		s.packs = append([]listedPack{{gone, 1 << 20}}, s.packs...)
		l := s.entries[0]
		s.entries = append([]location{{gone, frame{kind: chunkData, raw: 1, offset: 2000, stored: 17}}}, s.entries...)
		s.entries[1] = l
	}}
	b.build(t)
	if _, err := readAll(b.dir, Open); err != nil {
		t.Error(err)
	}
}

// Every case is signed and sealed as it should be, and breaks one rule.
func TestRefuses(t *testing.T) {
	stranger := ed25519.NewKeyFromSeed(random(32))
	writer := ed25519.NewKeyFromSeed(random(32))
	signedBy := func(key ed25519.PrivateKey, kind byte) *builder {
		return &builder{writer: writer, signers: map[byte]ed25519.PrivateKey{kind: key}}
	}
	plain := func(kind byte, f func([]byte) []byte) *builder {
		return &builder{editPlain: func(k byte, b []byte) []byte {
			if k == kind {
				return f(b)
			}
			return b
		}}
	}
	longer := func(b []byte) []byte { return append(b, 0) }
	// Only of a chunk that is stored compressed can a frame not show the length.
	compressedLonger := func(b []byte) []byte {
		if bytes.Count(b, []byte("work")) > 1000 {
			b = append(b, 0)
		}
		return b
	}
	restoring := signedBy(writer, kindManifest)
	restoring.editPlain = plain(kindManifest, func(b []byte) []byte { b[8] |= FlagRestored; return b }).editPlain
	superseding := signedBy(writer, kindSegment)
	superseding.editSegment = func(s *segment) { s.supersedes = []ID{sampleID(1)} }

	for name, test := range map[string]struct {
		b    *builder
		want string
	}{
		"config of a stranger":     {signedBy(stranger, kindConfig), "not signed by the admin"},
		"config's order":           {&builder{editConfigOrder: true}, "writers are not in order"},
		"config's private part":    {plain(kindConfig, longer), "padding"},
		"slot of a writer":         {signedBy(writer, kindSlot), "not signed by the admin"},
		"manifest of a stranger":   {signedBy(stranger, kindManifest), "not a writer"},
		"segment of a stranger":    {signedBy(stranger, kindSegment), "not a writer"},
		"brought back by a writer": {restoring, "only by the admin"},
		"superseding by a writer":  {superseding, "supersedes"},
		"end of another":           {signedBy(writer, kindEnd), "neither by"},
		"begin's padding":          {plain(kindBegin, longer), "padding"},
		"another lease's beat":     {plain(kindBeat, func(b []byte) []byte { b[0]++; return b }), "another lease"},
		"beat's number":            {plain(kindBeat, func(b []byte) []byte { b[32]++; return b }), "another number"},
		"open part's flags":        {plain(kindManifest, func(b []byte) []byte { b[8] = 16; return b }), "unknown flags"},
		"segment's padding":        {plain(kindSegment, longer), "padding"},
		"pack's padding":           {&builder{extraPadding: 64}, "padding"},
		"chunk's ID":               {&builder{editChunk: func(b []byte) []byte { b[5]++; return b }}, "chunk's ID"},
		"chunk's length":           {&builder{editChunk: compressedLonger}, "plaintext has"},
		"segment against pack":     {&builder{editSegment: func(s *segment) { s.entries[0].raw++; s.entries[0].encoding = encodingZstd }}, "disagree"},
		"segment's size of a pack": {&builder{editSegment: func(s *segment) { s.packs[0].size++ }}, "bytes, not"},
		"no parent":                {&builder{editLeaves: func(l [][]Entry) { l[0][1].Key = "\x00e" }}, "no parent"},
		"parent is a file":         {&builder{editLeaves: func(l [][]Entry) { l[1][4].Type = File }}, "no parent"},
		"order across leaves":      {&builder{editLeaves: func(l [][]Entry) { l[1][0].Key = "\x00etc\x00b\x01" }}, "follows"},
		"content hash":             {&builder{editLeaves: func(l [][]Entry) { l[0][2].ContentHash[0]++ }}, "content hash"},
		"content hash of a tree":   {&builder{editLeaves: func(l [][]Entry) { l[0][4].ContentHash[0]++ }}, "content hash"},
		"size of a list tree":      {&builder{editLeaves: func(l [][]Entry) { l[0][4].Size++ }}, "less than"},
		"level of a list tree":     {&builder{editLeaves: func(l [][]Entry) { l[0][4].List.Level++ }}, "level"},
		"entries below":            {&builder{editChildren: func(c []child) { c[0].entries++ }}, "not as its parent"},
		"bytes below":              {&builder{editChildren: func(c []child) { c[1].bytes-- }}, "not as its parent"},
		"first key below":          {&builder{editChildren: func(c []child) { c[1].first = "\x00etc\x00d" }}, "not as its parent"},
	} {
		test.b.build(t)
		_, err := readAll(test.b.dir, Open)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// No byte of any object may change unnoticed. Objects are large; a few bytes of each stand for the rest.
func TestEveryObjectIsVerified(t *testing.T) {
	var b builder
	b.build(t)
	b.writeCondemned(phaseWaiting)
	b.writeTombstone(sampleID(1))
	err := filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(b.dir, path)
		if err != nil {
			return err
		}
		object, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, at := range []int{0, 7, 20, 41, 46, 60, len(object) / 2, len(object) - 97, len(object) - 40, len(object) - 1} {
			object[at] ^= 1
			if err := os.WriteFile(path, object, 0o666); err != nil {
				return err
			}
			if _, err := readAll(b.dir, Open); err == nil {
				t.Errorf("%s: byte %d changed, no error", name, at)
			}
			object[at] ^= 1
		}
		return os.WriteFile(path, object, 0o666)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(b.dir, Open); err != nil {
		t.Errorf("undamaged: %v", err)
	}
}
