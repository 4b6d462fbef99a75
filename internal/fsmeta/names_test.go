package fsmeta_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
)

func list(n *fsmeta.Names) []string {
	names := make([]string, n.Len())
	for i := range names {
		names[i] = n.At(i)
	}
	return names
}

func TestReadNames(t *testing.T) {
	tr := newTree(t)
	if names, err := tr.Names(); len(names) != 0 || err != nil {
		t.Errorf("empty directory: %q, %v", names, err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var want []string
	for i := range 3000 {
		name := make([]byte, 1+rng.IntN(60))
		for j := range name {
			name[j] = byte(1 + rng.IntN(255))
		}
		name = append(bytes.ReplaceAll(name, []byte("/"), []byte("\n")), fmt.Sprint(i)...)
		tr.write(t, string(name), "", 0o644)
		want = append(want, string(name))
	}
	want = append(want, strings.Repeat("z", 255), "...", "a", "a b", "a.b")
	for _, name := range want[3000:] {
		tr.write(t, name, "", 0o644)
	}
	slices.Sort(want)
	for range 2 { // the second reads from the start again
		got, err := fsmeta.ReadNames(tr.Fd())
		must(t, err)
		if !slices.Equal(list(got), want) {
			t.Fatalf("%d names, want %d", got.Len(), len(want))
		}
	}
	if got, err := tr.Names(); err != nil || !slices.Equal(got, want) {
		t.Errorf("%d names, want %d; %v", len(got), len(want), err)
	}
	perName := testing.AllocsPerRun(3, func() { fsmeta.ReadNames(tr.Fd()) }) / float64(len(want))
	if perName > 0.02 {
		t.Errorf("%.3f allocations a name", perName)
	}
	if _, err := fsmeta.ReadNames(-1); !errors.Is(err, unix.EBADF) {
		t.Errorf("bad descriptor: %v", err)
	}
}

// TestManyNames fills several blocks, with names that some file systems have and
// others do not: longer than 255 bytes, or shown twice.
func TestManyNames(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var all []string
	size := 0
	for i := range 300_000 {
		name := fmt.Sprintf("%x", rng.Uint64())
		if i%1000 == 0 {
			name = strings.Repeat(name, 60)
		}
		all = append(all, name)
		size += len(name) + 1
	}
	names, err := fsmeta.NamesOf(append(all, all[:1000]...))
	must(t, err)
	slices.Sort(all)
	if got := list(names); !slices.Equal(got, all) {
		t.Fatalf("%d names are not the %d sorted ones", len(got), len(all))
	}
	blocks, bytes := names.Blocks()
	if blocks < 5 || bytes > size+3<<20 {
		t.Errorf("%d bytes of names are in %d blocks of %d bytes", size, blocks, bytes)
	}
}
