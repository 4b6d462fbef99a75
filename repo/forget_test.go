package repo_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/faulty"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/retention"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// forgets forgets and fails the test unless it was so many.
func (w *world) forgets(want int, ids ...snapshot.ID) {
	w.Helper()
	n, err := w.stranger(admin).Forget(w.Context(), ids)
	w.must(err)
	if n != want {
		w.Fatalf("forgot %d, want %d", n, want)
	}
}

func TestForget(t *testing.T) {
	w := newRepository(t)
	cache := t.TempDir()
	ids := w.chain(cache, 5)
	w.forgets(2, ids[3], ids[1], ids[3])
	if names := w.names("tombstones/"); len(names) != 1 {
		t.Errorf("tombstones %v", names)
	}
	for _, r := range []*repo.Repository{w.machine(cache, admin), w.stranger(admin)} {
		set := w.snapshots(r)
		if set.Len() != 3 || len(set.Forgotten) != 2 || !slices.Equal(set.Forgotten[ids[3]], ids[2:3]) {
			t.Errorf("%d snapshots, forgotten %v", set.Len(), set.Forgotten)
		}
		w.mustBeSound(r)
	}
	// Again is harmless, and stores nothing.
	w.forgets(0, ids[1])
	w.forgets(1, ids[1], ids[0])
	if names := w.names("tombstones/"); len(names) != 2 {
		t.Errorf("tombstones %v", names)
	}
	// What prune takes is missed by nobody, and what the storage loses is.
	w.delete(manifestName(ids[0]), manifestName(ids[1]), manifestName(ids[3]))
	w.mustBeSound(w.machine(cache, admin))
	w.isSound()
	w.delete(manifestName(ids[2]))
	for _, r := range []*repo.Repository{w.machine(cache, admin), w.stranger(admin)} {
		if report := w.check(r); len(report.Problems) != 1 || report.Problems[0].Object != manifestName(ids[2]) {
			t.Errorf("the check says %+v", report.Problems)
		}
	}
}

func TestForgetRefuses(t *testing.T) {
	w := newRepository(t)
	w.addSlot("writer", seal.WriteOnly)
	ids := w.chain(t.TempDir(), 2)
	_, err := w.stranger("writer").Forget(t.Context(), ids)
	w.wants(err, repo.ErrWriteOnly)
	_, err = w.stranger(admin).Forget(t.Context(), []snapshot.ID{ids[0], snapshot.IDOf([]byte("nowhere"))})
	w.wants(err, repo.ErrNoSnapshot)
	w.replace(manifestName(ids[0]), flipped(w.object(manifestName(ids[0])), 100))
	_, err = w.stranger(admin).Forget(t.Context(), []snapshot.ID{ids[1], ids[0]})
	w.wants(err, repo.ErrDamage)
	if n, err := w.stranger(admin).Forget(t.Context(), nil); n != 0 || err != nil {
		t.Errorf("nothing to forget: %d, %v", n, err)
	}
	if names := w.names("tombstones/"); len(names) > 0 {
		t.Errorf("tombstones %v", names)
	}
}

func TestFaultyForget(t *testing.T) {
	w := newRepository(t)
	ids := w.chain(t.TempDir(), 4)
	gone := []snapshot.ID{ids[1], ids[3]}
	work := func(w *world, b backend.Interface, cache string) error {
		return w.use(b, cache, func(r *repo.Repository) error {
			_, err := r.Forget(w.Context(), gone)
			return err
		})
	}
	w.eachFault(work, func(w *world, cache string, acked error) {
		set := w.snapshots(w.machine(cache, admin))
		if set.Len() != 2 && (set.Len() != 4 || acked == nil) {
			w.Errorf("%d snapshots are left, and the answer was %v", set.Len(), acked)
		}
		w.forgets(set.Len()-2, gone...)
		if set := w.snapshots(w.stranger(admin)); set.Len() != 2 || len(w.names("tombstones/")) != 1 {
			w.Errorf("%d snapshots, tombstones %v", set.Len(), w.names("tombstones/"))
		}
		w.isSound()
	})
}

// A tombstone that is merely seen may belong to a forget that was killed before it was durable.
func TestForgetMakesSure(t *testing.T) {
	w := newRepository(t)
	ids := w.chain(t.TempDir(), 3)
	w.forgets(2, ids[:2]...)
	in, err := faulty.Parse("put tombstones/*: err EIO")
	w.must(err)
	w.must(w.use(in.Wrap(w.storage), t.TempDir(), func(r *repo.Repository) error {
		for _, id := range ids[:2] {
			if _, err := r.Forget(t.Context(), []snapshot.ID{id}); !errors.Is(err, syscall.EIO) {
				t.Errorf("it may vanish, and the answer was %v", err)
			}
		}
		return nil
	}))
	w.forgets(0, ids[:2]...)
	w.forgets(1, ids...)
}

// What was verified once is not read again, and tells the same.
func TestVerifiedBefore(t *testing.T) {
	w := newRepository(t)
	cache := t.TempDir()
	ids := w.chain(cache, 3)
	before := make(map[snapshot.ID]retention.Item)
	look := func(r *repo.Repository) map[snapshot.ID]retention.Item {
		items := make(map[snapshot.ID]retention.Item)
		set := w.snapshots(r)
		for _, s := range set.Newest() {
			w.must(r.LoadBody(t.Context(), s))
			items[s.ID] = s.RetentionItem([]string{s.Body.Set})
		}
		if len(set.Damage) > 0 {
			t.Errorf("damage %v", set.Damage)
		}
		return items
	}
	r, err := repo.Open(t.Context(), w.options(w.storage, cache, admin))
	w.must(err)
	before = look(r)
	w.must(r.Close())
	kept, err := filepath.Glob(filepath.Join(cache, "*", "manifests"))
	if err != nil || len(kept) != 1 {
		t.Fatal(kept, err)
	}
	w.must(os.RemoveAll(kept[0]))
	in, err := faulty.Parse("open snapshots/*: err EIO")
	w.must(err)
	w.must(w.use(in.Wrap(w.storage), cache, func(r *repo.Repository) error {
		same := func(a, b retention.Item) bool {
			return a.ID == b.ID && a.Time.Equal(b.Time) && a.Stored.Equal(b.Stored) && slices.Equal(a.Links, b.Links) && slices.Equal(a.Sources, b.Sources)
		}
		if after := look(r); len(after) != len(ids) || !maps.EqualFunc(after, before, same) {
			t.Errorf("%v, and before %v", after, before)
		}
		return nil
	}))
	// A check is not content with that.
	w.replace(manifestName(ids[0]), flipped(w.object(manifestName(ids[0])), 100))
	if report := w.check(w.machine(cache, admin)); len(report.Problems) != 1 {
		t.Errorf("the check says %+v", report.Problems)
	}
}

// A snapshot's time fits the storage's clock and the heads before it.
func TestTimesThatFit(t *testing.T) {
	w := newRepository(t)
	var warned []error
	o := w.options(w.storage, "", admin)
	o.Observer.Warning = func(err error) { warned = append(warned, err) }
	r, err := repo.Open(t.Context(), o)
	w.must(err)
	defer r.Close()
	commit := func(at time.Time, flags snapshot.Flags) (time.Time, error) {
		warned = nil
		wr := w.begin(r)
		root, err := put(t.Context(), r, wr, files{})
		w.must(err)
		id, err := wr.Commit(t.Context(), repo.NewSnapshot{Time: at, Flags: flags, Host: "host", Body: snapshot.Body{Root: root}})
		if err != nil {
			w.must(wr.Abort(t.Context()))
			return at, err
		}
		s, _ := w.snapshots(r).Get(id)
		return s.Open.Time, nil
	}
	for _, flags := range []snapshot.Flags{0, snapshot.TimeGiven, snapshot.Imported} {
		_, err := commit(w.now().Add(61*time.Minute), flags)
		w.wants(err, repo.ErrClock)
	}
	ahead := w.now().Add(50 * time.Minute)
	if at, err := commit(ahead, 0); err != nil || !at.Equal(ahead) || warned != nil {
		t.Errorf("50 minutes ahead: %v, %v, %v", at, err, warned)
	}
	if at, err := commit(w.now(), 0); err != nil || !at.After(ahead) || at.Sub(ahead) > time.Second || len(warned) != 1 {
		t.Errorf("behind that: %v, %v, warned %v", at, err, warned)
	}
	if at, err := commit(ahead.Add(-time.Minute), 0); err != nil || !at.After(ahead) || warned != nil {
		t.Errorf("a minute behind: %v, %v, warned %v", at, err, warned)
	}
	old := time.Unix(1_000_000_000, 0)
	for _, flags := range []snapshot.Flags{snapshot.TimeGiven, snapshot.Imported | snapshot.TimeGiven} {
		if at, err := commit(old, flags); err != nil || !at.Equal(old) || warned != nil {
			t.Errorf("a given time: %v, %v, %v", at, err, warned)
		}
	}
}

// What an attacker says of its own times neither counts nor shifts those of others.
func TestAttackRetention(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		times := []time.Time{time.Unix(0, 1<<63-1), s.now().Add(2 * time.Hour), s.now().Add(-100 * time.Hour)}
		var forged []snapshot.ID
		for _, at := range times {
			id, object := s.evil.manifest(func(m *snapshot.Manifest) {
				m.Open.Time, m.Open.Host = at, "host"
				if at.Before(s.now()) {
					m.Open.Links = []snapshot.ID{s.id}
				}
			})
			s.evil.put(manifestName(id), object)
			forged = append(forged, id)
		}
		next := s.mustBackup(s.host(), "next", s.files)
		r := s.stranger(admin)
		set := s.snapshots(r)
		mine, _ := set.Get(next)
		if ahead := mine.Open.Time.Sub(s.now()); ahead > retention.MaxAhead {
			t.Errorf("the host's next snapshot is %v ahead", ahead)
		}
		in := retention.Input{Now: s.now(), Zone: time.UTC, GroupBy: retention.DefaultGroupBy, Forgotten: set.ForgottenLinks()}
		for _, x := range set.Newest() {
			in.Items = append(in.Items, x.RetentionItem(nil))
		}
		for _, d := range retention.Apply(&retention.Policy{Last: 2}, &in).Decisions() {
			id := snapshot.ID(d.Item.ID)
			if !d.Keep || d.Implausible != slices.Contains(forged, id) {
				t.Errorf("snapshot %s of %s: %+v", id.Short(), d.Item.Time, d)
			}
		}
	})
}
