package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cairn-backup/cairn/bench/corpus"
)

// A workload is either a tree of files, or something else to be measured.
type workload struct {
	name string
	// make makes a tree of files at a path that does not exist yet, the same each
	// time on one machine.
	make func(ctx context.Context, root string) error
	// next makes, at a path that does not exist yet, those files of the n-th version that
	// are new or other than in the one before, and names those that are gone. Nil: there is a
	// second version, by editFiles.
	next     func(ctx context.Context, root string, n int) (gone []string, err error)
	versions int // with next: how many
	// stream is the file that is read from the standard input, if not the tree is backed up.
	stream string
	// archive: tar and zstd are measured as well.
	archive bool
	// run, if not nil, measures instead.
	run func(ctx context.Context, c *config, log io.Writer) (*workloadResult, error)
}

var workloadNames = []string{"tree", "small", "source", "dump", "dump-stdin", "vm", "random", "forget", "prune", "postgres"}

// newWorkload returns the workload of a name; the scale divides its size.
func newWorkload(name string, scale int64) (workload, error) {
	w := workload{name: name}
	switch name {
	case "tree":
		w.archive = true
		w.make = func(ctx context.Context, root string) error { return makeTree(ctx, root, 1100e6/scale) }
	case "small":
		w.archive = true
		w.make = func(ctx context.Context, root string) error { return makeSmall(ctx, root, int(200_000/scale)) }
	case "source":
		setSource(&w, scale)
	case "dump", "dump-stdin":
		setDump(&w, 240e6/scale)
		if name == "dump-stdin" {
			w.stream = dumpName
		}
	case "vm":
		setImage(&w, 3<<30/scale, 600<<20/scale)
	case "random":
		w.make = func(ctx context.Context, root string) error { return makeRandom(ctx, root, int(64/scale)) }
	case "forget":
		n := int(10_000 / scale)
		w.run = func(ctx context.Context, c *config, log io.Writer) (*workloadResult, error) {
			return c.runForget(ctx, n, log)
		}
	case "postgres":
		w.run = func(ctx context.Context, c *config, log io.Writer) (*workloadResult, error) {
			return c.runDatabase(ctx, 240e6/scale, log)
		}
	case "prune":
		files := int(50_000 / scale)
		w.run = func(ctx context.Context, c *config, log io.Writer) (*workloadResult, error) {
			return c.runPrune(ctx, 20, files, log)
		}
	default:
		return w, fmt.Errorf("no workload is called %q: there are %s", name, strings.Join(workloadNames, ", "))
	}
	return w, nil
}

// makeTree copies parts of /usr and of Go's own tree, budget bytes in all.
func makeTree(ctx context.Context, root string, budget int64) error {
	goroot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	for _, part := range []struct {
		from, name string
		percent    int64
	}{
		{strings.TrimSpace(string(goroot)), "go", 20},
		{"/usr/lib", "lib", 50},
		{"/usr/share", "share", 30},
	} {
		if err := copyPart(ctx, part.from, filepath.Join(root, part.name), budget*part.percent/100); err != nil {
			return err
		}
	}
	return nil
}

// copyPart copies directories below from, each with all files directly in it,
// until budget bytes are used. They are taken in the order of a hash of their
// names: an even choice of what is there, where the alphabet's would be all of
// its beginning.
func copyPart(ctx context.Context, from, to string, budget int64) error {
	type dir struct {
		path string // below from
		hash uint64
		size int64
	}
	var dirs []*dir
	byPath := make(map[string]*dir)
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			h := fnv.New64a()
			io.WriteString(h, rel)
			byPath[rel] = &dir{path: rel, hash: h.Sum64()}
			dirs = append(dirs, byPath[rel])
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		byPath[filepath.Dir(rel)].size += info.Size()
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(dirs, func(a, b *dir) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.path, b.path)) })
	for _, d := range dirs {
		if d.size > budget {
			continue
		}
		budget -= d.size
		if err := copyFiles(filepath.Join(from, d.path), filepath.Join(to, d.path)); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// copyFiles copies the regular files and symbolic links of one directory.
func copyFiles(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, d := range entries {
		src, dst := filepath.Join(from, d.Name()), filepath.Join(to, d.Name())
		switch d.Type() {
		case 0:
			err = copyFile(src, dst)
		case fs.ModeSymlink:
			var target string
			if target, err = os.Readlink(src); err == nil {
				err = os.Symlink(target, dst)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrPermission) {
		return nil // a part of /usr for root's eyes only
	} else if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		return err
	}
	if err := os.Chmod(to, info.Mode()&fs.ModePerm); err != nil {
		return err
	}
	return os.Chtimes(to, time.Time{}, info.ModTime())
}

// epoch is when generated files were modified.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// makeSmall generates files of some 2 KB, 200 in a directory: records as programs
// write them, of names that recur and numbers that do not. zstd makes a third of
// a tar of them, and nearly half of each alone.
func makeSmall(ctx context.Context, root string, files int) error {
	var b bytes.Buffer
	for n := range files {
		r := rand.New(rand.NewPCG(2, uint64(n)))
		b.Reset()
		writeRecords(&b, r, n)
		name := filepath.Join(root, fmt.Sprintf("%02d/%02d/%06d.json", n/10_000, n/200%50, n))
		if err := writeGenerated(name, b.Bytes(), n%200 == 0); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// writeRecords writes one file's text to b.
func writeRecords(b *bytes.Buffer, r *rand.Rand, n int) {
	word := corpus.NewProse(r).Word
	size := 1160 + r.IntN(1840)
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(b, `{"id": %d, "time": %d, "user": "%s.%s", "state": "%s", "key": "%08x", "text": "`,
			n*100+i, epoch.Unix()+int64(n*60+i*7+r.IntN(7)), word(), word(), []string{"new", "open", "done"}[r.IntN(3)], r.Uint32())
		for range 8 + r.IntN(16) {
			b.WriteString(word())
			b.WriteByte(' ')
		}
		b.WriteString("\"}\n")
	}
}

// makeRandom generates files of 8 MiB that do not compress.
func makeRandom(ctx context.Context, root string, files int) error {
	data := make([]byte, 8<<20)
	for n := range files {
		var seed [32]byte
		copy(seed[:], strconv.Itoa(n))
		rand.NewChaCha8(seed).Read(data)
		if err := writeGenerated(filepath.Join(root, fmt.Sprintf("%03d.bin", n)), data, n == 0); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func writeGenerated(name string, data []byte, first bool) error {
	if first {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		return err
	}
	return os.Chtimes(name, time.Time{}, epoch)
}

// warm reads all files below root, so that they are in the page cache, and
// says how many they are and how long.
func warm(root string) (files int, size int64, err error) {
	buf := make([]byte, 1<<20)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		// Not io.Copy: it would let the kernel drop what it need not read.
		for {
			n, err := f.Read(buf)
			size += int64(n)
			if err == io.EOF {
				break
			} else if err != nil {
				return err
			}
		}
		files++
		return nil
	})
	return files, size, err
}

// stored returns the sum of the lengths of all files below root.
func stored(root string) (int64, error) {
	var size int64
	err := filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}

// removeAll removes a tree that may have directories which may not be written
// to. What it can't remove is left: there is nothing better to do at the end.
func removeAll(root string) {
	if os.RemoveAll(root) == nil || syscall.Getuid() == 0 {
		return
	}
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(path, 0o700)
		}
		return nil
	})
	os.RemoveAll(root)
}
