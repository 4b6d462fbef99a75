package repo_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/repo"
)

// slow is a storage in which the first two Puts of an end, which are the two tries of a
// commit, fail, and have their effect later.
type slow struct {
	*mem.Mem
	late []func() error
}

func (s *slow) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	if !strings.HasSuffix(name, "/end") || len(s.late) == 2 {
		return s.Mem.Put(ctx, name, body, size)
	}
	s.late = append(s.late, func() error { return s.Mem.Put(context.WithoutCancel(ctx), name, body, size) })
	return syscall.ETIMEDOUT
}

var _ backend.Full = (*slow)(nil)

// A commit that arrives after its writer gave up, and after a prune that found no such
// writer, must come to nothing: what the snapshot needs may be gone.
func TestDelayedCommit(t *testing.T) {
	for _, keeps := range []bool{true, false} {
		t.Run(fmt.Sprint("ends are kept: ", keeps), func(t *testing.T) {
			w := newRepository(t)
			w.mustBackup(w.stranger(admin), "first", w.someFiles())
			before := w.names("")
			storage := &slow{Mem: w.storage}
			r := w.through(storage, admin)
			if !keeps {
				r.Omit(repo.StepKeepEnds)
			}
			wr := w.begin(r)
			_, err := w.finish(r, wr, "second", w.someFiles())
			w.wants(err, syscall.ETIMEDOUT)
			w.must(wr.Beat(t.Context()))
			w.must(wr.Abort(t.Context()))
			var want []string
			if keeps {
				want = []string{repo.LeaseName(wr.LeaseID(), "end")}
			}
			if names := w.names("leases/"); !slices.Equal(names, want) {
				t.Errorf("left are %q, want %q", names, want)
			}
			for _, name := range w.names("") { // no lease is running, and no snapshot needs these
				if !slices.Contains(before, name) && !strings.HasPrefix(name, "leases/") {
					w.delete(name)
				}
			}
			var late []error
			for _, put := range storage.late {
				late = append(late, put())
			}
			report := w.check(w.stranger(admin))
			if !keeps {
				if w.snapshots(w.stranger(admin)).Len() != 2 || len(report.Problems) == 0 {
					t.Errorf("the delayed commit did no harm: %v", late)
				}
				return
			}
			for _, err := range late {
				w.wants(err, backend.ErrExist)
			}
			if n := w.snapshots(w.stranger(admin)).Len(); n != 1 {
				t.Errorf("%d snapshots", n)
			}
			if len(report.Problems) > 0 || len(report.Leftovers) > 0 {
				t.Errorf("the check says %+v", report)
			}
		})
	}
}

// Whoever gives up before it tried to commit leaves nothing; whoever was fenced leaves
// all to prune, the end for good.
func TestWhichEndsStay(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	wr := w.begin(r)
	w.must(wr.Beat(t.Context()))
	w.must(wr.Abort(t.Context()))
	if names := w.names("leases/"); len(names) > 0 {
		t.Errorf("left are %q", names)
	}
	wr = w.begin(r)
	fenced := wr.LeaseID()
	w.fence(wr)
	_, err := w.finish(r, wr, "first", w.someFiles())
	w.must(err)
	want := []string{repo.LeaseName(fenced, "begin"), repo.LeaseName(fenced, "end")}
	if names := w.names("leases/"); !slices.Equal(names, want) {
		t.Errorf("left are %q, want %q", names, want)
	}
	if left := w.check(r).Leftovers; len(left) != 1 || !strings.Contains(left[0], "an ended lease") {
		t.Errorf("the check says %q", left)
	}
	w.delete(want[0]) // as prune does
	if left := w.check(r).Leftovers; len(left) > 0 {
		t.Errorf("the check says %q of an end that stays", left)
	}
	// What committed is not quiet, even without its begin.
	w.halfCommitted("second", w.someFiles())
	for _, name := range w.names("leases/") {
		if strings.HasSuffix(name, "/begin") {
			w.delete(name)
		}
	}
	if left := w.check(r).Leftovers; len(left) != 2 {
		t.Errorf("the check says %q", left)
	}
}
