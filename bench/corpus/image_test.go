package corpus

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"
)

// disk is an image in memory.
type disk []byte

func (d disk) WriteAt(p []byte, off int64) (int, error) {
	if off%BlockSize != 0 || len(p)%BlockSize != 0 || off+int64(len(p)) > int64(len(d)) {
		return 0, errors.New("write beside the blocks")
	}
	return copy(d[off:], p), nil
}

func image(t testing.TB, version int) disk {
	t.Helper()
	d := make(disk, 64<<20)
	if err := (Image{Size: int64(len(d)), Data: 8 << 20, Version: version}).WriteBlocks(d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestImageIsTheSameForEver(t *testing.T) {
	for version, want := range map[int]string{1: "609c373bea4fe772", 2: "b4812223a59f7803"} {
		sum := sha256.Sum256(image(t, version))
		if got := hex.EncodeToString(sum[:8]); got != want {
			t.Errorf("version %d has the hash %s, want %s", version, got, want)
		}
	}
}

func TestImageVersionsDifferInBlocks(t *testing.T) {
	first, second := image(t, 1), image(t, 2)
	zero := make([]byte, BlockSize)
	var used, changed, added, twice int
	seen := make(map[string]bool)
	for i := 0; i < len(first); i += BlockSize {
		a, b := first[i:i+BlockSize], second[i:i+BlockSize]
		isUsed := !bytes.Equal(a, zero)
		switch {
		case isUsed:
			used++
			if seen[string(a)] {
				twice++
			}
			seen[string(a)] = true
			if !bytes.Equal(a, b) {
				changed++
			}
		case !bytes.Equal(b, zero):
			added++
		}
	}
	const blocks = 8 << 20 / BlockSize
	if used < blocks*9/10 || used > blocks {
		t.Errorf("%d blocks are used, want some %d", used, blocks)
	}
	if changed < blocks/rewritten/2 || changed > blocks/rewritten {
		t.Errorf("%d blocks were overwritten, want some %d", changed, blocks/rewritten)
	}
	if added < blocks/rewritten/2 || added > blocks/rewritten {
		t.Errorf("%d blocks were added, want some %d", added, blocks/rewritten)
	}
	if twice < blocks/50 {
		t.Errorf("%d blocks are copies of others", twice)
	}
}

func TestImageThatIsFull(t *testing.T) {
	d := make(disk, 1<<20)
	if err := (Image{Size: 1 << 20, Data: 1 << 20, Version: 3}).WriteBlocks(d); err != nil {
		t.Error(err)
	}
	if err := (Image{Size: 2 << 20, Data: 1 << 20, Version: 1}).WriteBlocks(d[:4096]); err == nil {
		t.Error("a write that failed is not told of")
	}
}

func BenchmarkFillText(b *testing.B) {
	p := make([]byte, 1<<20)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		FillText(p, 1)
	}
}
