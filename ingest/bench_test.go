package ingest_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
)

// sink is a storage that forgets what is staged, which packs are, so that what a
// benchmark allocates is the engine's.
type sink struct{ *mem.Mem }

func (sink) Stage(context.Context) (backend.Staged, error) { return forgotten{}, nil }

type forgotten struct{}

func (forgotten) Write(p []byte) (int, error)          { return len(p), nil }
func (forgotten) Commit(context.Context, string) error { return nil }
func (forgotten) Abort() error                         { return nil }

func benchRepository(b *testing.B) *repo.Repository {
	b.Helper()
	r, err := repo.Init(b.Context(), repo.Options{Storage: sink{mem.New(time.Now)}}, repo.Params{
		Chunker: chunk.Params{Algorithm: chunk.FastCDC, Min: 64 << 10, Avg: 128 << 10, Max: 256 << 10},
		Lock:    seal.Passphrase{Text: []byte("x"), Cost: seal.Cost{Passes: 1, Memory: 8, Lanes: 1}},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { r.Close() })
	return r
}

// endless delivers bytes that are never the same again, size in all, and calls
// warm when the first of them have gone through all buffers.
type endless struct {
	noise *rand.ChaCha8
	left  int
	after int
	warm  func()
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, _ := e.noise.Read(p[:min(len(p), e.left)])
	e.left -= n
	if e.after > 0 {
		if e.after -= n; e.after <= 0 {
			e.warm()
		}
	}
	return n, nil
}

// BenchmarkStream measures one long stream of chunks of some 128 KiB, an operation
// each, once all buffers are there.
func BenchmarkStream(b *testing.B) {
	const average, first = 128 << 10, 64 << 20
	r := benchRepository(b)
	b.ReportAllocs()
	b.SetBytes(average)
	source := &endless{rand.NewChaCha8([32]byte{1}), first + b.N*average, first, b.ResetTimer}
	_, err := ingest.Snapshot(b.Context(), r, ingest.Options{NoParent: true, Sources: []ingest.Source{ingest.Stream{Name: "dump", Reader: source}}})
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkSmallFiles measures a first snapshot of files of 2 KiB, an operation each.
func BenchmarkSmallFiles(b *testing.B) {
	r := benchRepository(b)
	dir := b.TempDir()
	contents := make([]byte, 2<<10)
	for n := range b.N {
		name := filepath.Join(dir, fmt.Sprintf("%04d/%d", n/200, n))
		if n%200 == 0 {
			if err := os.Mkdir(filepath.Dir(name), 0o755); err != nil {
				b.Fatal(err)
			}
		}
		binary.LittleEndian.PutUint64(contents[n%1000:], uint64(n)*0x9e3779b97f4a7c15)
		if err := os.WriteFile(name, contents, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(contents)))
	b.ResetTimer()
	if _, err := ingest.Snapshot(b.Context(), r, ingest.Options{NoParent: true, Paths: []string{dir}}); err != nil {
		b.Fatal(err)
	}
}
