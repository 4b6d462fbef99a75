package repo

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
)

// numbered is an ID that is not zero.
func numbered(n uint64) (id chunk.ID) {
	binary.LittleEndian.PutUint64(id[8:], n+1)
	binary.LittleEndian.PutUint64(id[:], n*0x9e3779b97f4a7c15)
	return id
}

// The ledger says of each chunk what follows from all that was said of it, in whatever
// order, also when it does not fit into memory.
func TestLedger(t *testing.T) {
	const n, lost = 20_000, 77 // the latter can't be read, whatever packs say
	random := rand.New(rand.NewPCG(1, 2))
	whole, delta, needs := make(map[uint64]bool), make(map[uint64][][]uint64), make(map[uint64]bool)
	l := new(ledger)
	defer l.close()
	for range 4 * n {
		i := random.Uint64N(n)
		var err error
		switch random.Uint64N(4) {
		case 0:
			whole[i] = true
			err = l.home(pack.Entry{ID: numbered(i), Kind: chunk.Data, Encoding: pack.Zstd})
		case 1:
			var e = pack.Entry{ID: numbered(i), Kind: chunk.Data, Encoding: pack.Delta}
			var of []uint64
			for k := range 1 + random.IntN(2) {
				base := random.Uint64N(n)
				of, e.Bases[k] = append(of, base), numbered(base)
			}
			delta[i] = append(delta[i], of)
			err = l.home(e)
		default:
			needs[i] = true
			err = l.need(numbered(i))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	absent := make(map[chunk.ID]bool)
	for i := range needs {
		isHoused := whole[i]
		for _, of := range delta[i] {
			isHoused = isHoused || !slices.ContainsFunc(of, func(base uint64) bool { return !whole[base] || base == lost })
		}
		if !isHoused {
			absent[numbered(i)] = true
		}
	}
	b, err := l.balance(func(id chunk.ID) bool { return id == numbered(lost) })
	if err != nil {
		t.Fatal(err)
	}
	if b.needed != len(needs) {
		t.Errorf("%d chunks are needed, not %d", b.needed, len(needs))
	}
	got := b.absent
	if len(absent) == 0 || len(got) != len(absent) {
		t.Errorf("%d chunks are absent, not %d", len(got), len(absent))
	}
	for id := range absent {
		lacking, ok := got[id]
		if !ok {
			t.Fatalf("chunk %s is not absent", id.Short())
		}
		for _, base := range lacking {
			if !b.homeless[base] {
				t.Fatalf("chunk %s does not lack %s", id.Short(), base.Short())
			}
		}
	}
}
