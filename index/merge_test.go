package index_test

import (
	"context"
	"errors"
	"os"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/cairn-backup/cairn/index"
)

// A countdown is a context that ends when it was asked often enough, so that what it is given
// to stops after a certain step.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// piledUp makes an index with runs that want to be merged, in several transactions.
func piledUp(t *testing.T, w *world) (*index.Local, string, []*index.Segment) {
	t.Helper()
	l, path := w.local()
	var all []*index.Segment
	for range 4 {
		all = append(all, w.open(w.object(w.admin, epoch1, nil, w.pack(45_000), w.pack(45_000))))
		w.absorb(l, all[len(all)-1])
	}
	return l, path, all
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// A merge that stops after any step leaves a file that answers right, that goes on with the
// merge later, and that never gets twice as large.
func TestMergeInterrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 60)
	l, path, all := piledUp(t, w)
	st, err := l.Stats()
	if err != nil || st.Runs != len(all) {
		t.Fatalf("%+v, %v", st, err)
	}
	stopped := 0
	for done := false; !done; {
		// One question is asked before the session and one before each step.
		err := l.Merge(&countdown{t.Context(), 2})
		if done = err == nil; !done {
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			stopped++
		}
		merging, err := l.Merging()
		if err != nil || done && merging {
			t.Fatalf("stopped %d times: merging %v, %v", stopped, merging, err)
		}
		if err := index.CheckFile(path); err != nil {
			t.Fatal(err)
		}
		if size := fileSize(t, path); size > 128*st.Chunks {
			t.Errorf("stopped %d times: the file has %d bytes for %d chunks", stopped, size, st.Chunks)
		}
		w.mustCompare(l, all, 300)
		if stopped == 1 {
			l.Close() // as a process would that goes on another day
			l = w.localAt(path)
			if err := walkEntries(w, l, all, 20_000); err != nil {
				t.Fatal(err)
			}
		}
	}
	if stopped < 2 {
		t.Errorf("stopped %d times only", stopped)
	}
	if st, err = l.Stats(); err != nil || st.Runs != 1 || st.Chunks != 360_000 {
		t.Errorf("%+v, %v", st, err)
	}
}

// Who absorbs a little does not wait for a large merge, but moves it on.
func TestAbsorbMovesMergeOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 61)
	l, _, all := piledUp(t, w)
	for n := 1; ; n++ {
		all = append(all, w.open(w.object(w.admin, epoch1, nil, w.pack(1000))))
		w.absorb(l, all[len(all)-1])
		merging, err := l.Merging()
		if err != nil {
			t.Fatal(err)
		}
		if n == 10 {
			w.mustCompare(l, all, 300)
		}
		if !merging {
			if n < 20 {
				t.Errorf("%d absorbs of 1,000 chunks merged 360,000", n)
			}
			break
		}
		if n > 40 {
			t.Fatal("the merge does not come to its end")
		}
	}
	w.mustCompare(l, all, 300)
}

// A filter that lost a bit would say that a stored chunk is not there. It is noticed.
func TestDamagedFilter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 62)
	s := w.open(w.object(w.admin, epoch1, nil, w.pack(30_000)))
	for what, damage := range map[string]func(b *bolt.Bucket, k, v []byte) error{
		"cleared": func(b *bolt.Bucket, k, v []byte) error { return b.Put(k, make([]byte, len(v))) },
		"without bits, and the sums of those that it had": func(b *bolt.Bucket, k, v []byte) error {
			for at := 0; at < len(v); at += 64 {
				clear(v[at : at+56])
			}
			return b.Put(k, v)
		},
		"with lines in the place of others": func(b *bolt.Bucket, k, v []byte) error {
			return b.Put(k, append(v[64:], v[:64]...))
		},
		"short":   func(b *bolt.Bucket, k, v []byte) error { return b.Put(k, v[:len(v)-64]) },
		"missing": func(b *bolt.Bucket, k, v []byte) error { return b.Delete(k) },
	} {
		l, path := w.local()
		w.absorb(l, s)
		l.Close()
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte("filters"))
			all := make(map[string][]byte)
			if err := b.ForEach(func(k, v []byte) error {
				all[string(k)] = append([]byte{}, v...)
				return nil
			}); err != nil {
				return err
			}
			for k, v := range all {
				if err := damage(b, []byte(k), v); err != nil {
					return err
				}
			}
			return nil
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		l = w.localAt(path)
		_, err = l.Lookup(w.chunks[0])
		if !errors.Is(err, index.ErrLost) {
			t.Errorf("filter %s: %v", what, err)
		}
	}
}
