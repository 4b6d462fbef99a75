package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// reads is a storage that tells which packs are read whole, and can fail after some.
type reads struct {
	*mem.Mem
	mu    sync.Mutex
	packs []string
	stop  func(n int) error
}

func (s *reads) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasPrefix(name, "data/") || strings.HasPrefix(name, "meta/") {
		if s.stop != nil {
			if err := s.stop(len(s.packs)); err != nil {
				return nil, err
			}
		}
		s.packs = append(s.packs, name)
	}
	return s.Mem.Open(ctx, name)
}

// read runs a check on a machine and returns which packs it read.
func (w *world) read(cache string, o repo.CheckOptions, stop func(int) error) (packs []string, report *repo.Report, err error) {
	w.Helper()
	s := &reads{Mem: w.storage, stop: stop}
	r, err := repo.Open(w.Context(), w.options(s, cache, admin))
	w.must(err)
	defer func() { w.must(r.Close()) }()
	report, err = r.Check(w.Context(), o)
	return s.packs, report, err
}

// manyPacks fills a repository.
func manyPacks(t *testing.T) *world {
	w := newRepository(t)
	f := make(files)
	for n := range 12 {
		f[fmt.Sprint(n)] = w.random.bytes(3 * blockSize)
	}
	w.mustBackup(w.stranger(admin), "first", f)
	return w
}

// Checks that read a part go through all packs, the same ones again only when all were
// read.
func TestCheckGoesThroughAll(t *testing.T) {
	w := manyPacks(t)
	cache := t.TempDir()
	total := len(w.names("data/")) + len(w.names("meta/"))
	if total < 10 {
		t.Fatalf("%d packs", total)
	}
	count := make(map[string]int)
	read := 0
	part := repo.CheckOptions{Read: repo.Sample{Percent: 15}}
	for read < 3*total {
		packs, report, err := w.read(cache, part, nil)
		w.must(err)
		if len(packs) == 0 || len(packs) > total/2 {
			t.Fatalf("read %d of %d packs", len(packs), total)
		}
		read += len(packs)
		for _, name := range packs {
			count[name]++
		}
		most := slices.Max(slices.Collect(maps.Values(count)))
		if len(count) != min(read, total) || most > (read+total-1)/total {
			t.Fatalf("after reading %d times one of %d packs: %v", read, total, count)
		}
		if v := report.Verified; v.Never != total-len(count) || v.Never > 0 != (v.NeverBytes > 0) || v.Oldest.IsZero() || v.Oldest.After(w.now()) {
			t.Errorf("after %d of %d packs the report says %+v", len(count), total, v)
		}
	}

	// What is new comes first, what is gone is no more spoken of.
	before := append(w.names("data/"), w.names("meta/")...)
	w.mustBackup(w.stranger(admin), "second", files{"new": w.random.bytes(blockSize)})
	packs, report, err := w.read(cache, repo.CheckOptions{Read: repo.Sample{Bytes: 1}}, nil)
	w.must(err)
	if len(packs) != 1 || slices.Contains(before, packs[0]) || report.Verified.Never != 1 {
		t.Errorf("read %q of old %q; %+v", packs, before, report.Verified)
	}
	for _, step := range (&besides{world: w}).happens("prune") {
		step()
	}
	_, report, err = w.read(cache, repo.CheckOptions{}, nil)
	w.must(err)
	if v := report.Verified; v.Never != report.Packs || v.NeverBytes != report.PackBytes || !v.Oldest.IsZero() {
		t.Errorf("all packs are new: %+v", v)
	}

	// All means all, whatever was read before.
	if packs, report, err = w.read(cache, all, nil); err != nil || len(packs) != report.Packs || report.Verified.Never > 0 {
		t.Errorf("read %d of %+v: %v", len(packs), report, err)
	}
	kept, err := filepath.Glob(filepath.Join(cache, "*", "verified-*"))
	w.must(err)
	if fi, err := os.Stat(kept[0]); err != nil || fi.Size() > int64(100+40*report.Packs) {
		t.Errorf("of packs that are gone something is kept: %v, %v", fi, err)
	}
	// Another machine knows nothing of it.
	if _, report, err = w.read(t.TempDir(), repo.CheckOptions{}, nil); err != nil || report.Verified.Never != report.Packs {
		t.Errorf("another machine says %+v: %v", report.Verified, err)
	}
}

// What was read by a check that did not come to its end counts.
func TestCheckInterrupted(t *testing.T) {
	w := manyPacks(t)
	cache := t.TempDir()
	stopped := errors.New("stopped")
	first, _, err := w.read(cache, all, func(n int) error {
		if n == 5 {
			return stopped
		}
		return nil
	})
	w.wants(err, stopped)
	_, report, err := w.read(cache, repo.CheckOptions{}, nil)
	w.must(err)
	known := report.Packs - report.Verified.Never
	if known == 0 || known > len(first) {
		t.Fatalf("%d of %d packs are known to be good", known, len(first))
	}
	second, _, err := w.read(cache, all, nil)
	w.must(err)
	again := 0
	for _, name := range second[:report.Verified.Never-2] { // two are read at once
		if slices.Contains(first, name) {
			again++
		}
	}
	if again > len(first)-known {
		t.Errorf("%d packs are read again before others were read", again)
	}
}

// The memory is kept from time to time, as a kill lets nothing be written at the end.
func TestVerifiedIsKept(t *testing.T) {
	w := manyPacks(t)
	cache := t.TempDir()
	r := w.machine(cache, admin)
	r.SaveVerifiedEvery(1)
	known := -1
	s := &reads{Mem: w.storage, stop: func(n int) error {
		if n == 8 {
			_, report, err := w.read(cache, repo.CheckOptions{}, nil) // while the other runs
			w.must(err)
			known = report.Packs - report.Verified.Never
		}
		return nil
	}}
	r.Use(s)
	_, err := r.Check(t.Context(), all)
	w.must(err)
	if known < 4 {
		t.Errorf("after 8 packs %d are known", known)
	}
}

// A damaged pack is not verified, and was not, whatever is remembered of it.
func TestDamagedIsNotVerified(t *testing.T) {
	w := manyPacks(t)
	cache := t.TempDir()
	_, _, err := w.read(cache, all, nil)
	w.must(err)
	bad := w.names("data/")[2]
	w.replace(bad, flipped(w.object(bad), len(w.object(bad))/3))
	for range 2 {
		_, report, err := w.read(cache, all, nil)
		w.must(err)
		if v := report.Verified; v.Never != 1 || v.NeverBytes != int64(len(w.object(bad))) || len(report.Problems) != 1 {
			t.Errorf("%+v, %+v", v, report.Problems)
		}
		packs, _, err := w.read(cache, repo.CheckOptions{Read: repo.Sample{Bytes: 1}}, nil)
		w.must(err)
		if !slices.Equal(packs, []string{bad}) {
			t.Errorf("read first is %q", packs)
		}
	}
	// Repair reads packs too.
	r := w.machine(t.TempDir(), admin)
	fixed, err := r.Repair(t.Context(), repo.RepairOptions{Read: all.Read})
	w.must(err)
	if v := fixed.Left.Verified; v.Oldest.IsZero() || v.Never >= fixed.Left.Packs-1 {
		t.Errorf("after a repair: %+v of %d packs", v, fixed.Left.Packs)
	}
}

// What a report says does not hang on chance, names all snapshots, and has bounds.
func TestReportOrder(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	shared, other := w.random.bytes(4*blockSize), w.random.bytes(3*blockSize)
	var ids []snapshot.ID
	var lost []string
	for n := range 103 {
		f := files{"shared": shared, "own": fmt.Append(nil, n/2)} // two have the same tree
		if n < 2 {
			f["old"] = other
		}
		ids = append(ids, w.mustBackup(r, "set", f))
		if n == 0 {
			lost = w.names("data/")
		}
	}
	slices.Reverse(ids)
	w.delete(lost...)
	const flips = 6
	for _, name := range w.names("data/")[:flips] { // each has a file of two snapshots
		w.replace(name, flipped(w.object(name), pack.PrefixSize))
	}
	var first *repo.Report
	for range 3 {
		report := w.check(w.stranger(admin))
		report.ReadBytes, report.Verified = 0, repo.Verification{}
		if first == nil {
			first = report
		}
		if fmt.Sprint(first) != fmt.Sprint(report) {
			t.Errorf("two checks say\n%v\n%v", first, report)
		}
	}
	most := 0
	for _, p := range first.Problems {
		if !slices.IsSortedFunc(p.Chunks, func(a, b chunk.ID) int { return bytes.Compare(a[:], b[:]) }) {
			t.Errorf("chunks are %v", p.Chunks)
		}
		most = max(most, len(p.Snapshots)+p.MoreSnapshots)
		if len(p.Snapshots) == 100 && !reflect.DeepEqual(p.Snapshots, ids[:100]) {
			t.Errorf("snapshots are %v, want the newest of %v", p.Snapshots, ids)
		}
		for _, f := range p.Files {
			if want := 102; f.Path == "/shared" && (f.Others != want || f.Snapshot != ids[0]) || f.Path == "/old" && (f.Others != 1 || f.Snapshot != ids[101]) {
				t.Errorf("of a file it says %+v", f)
			}
		}
	}
	if most != 103 || first.Affected != 103 || len(first.Problems) != len(lost)+flips {
		t.Errorf("%d of %d snapshots are named, in %d problems of %d", most, first.Affected, len(first.Problems), len(lost)+flips)
	}
}
