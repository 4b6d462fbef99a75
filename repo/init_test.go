package repo_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/faulty"
	"github.com/cairn-backup/cairn/backend/local"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
)

// newLocal returns a storage in a folder.
func newLocal(t *testing.T) backend.Interface {
	b, err := local.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestInitOpen(t *testing.T) {
	for name, storage := range map[string]func(*testing.T, *world) backend.Interface{
		"mem":   func(_ *testing.T, w *world) backend.Interface { return w.storage },
		"local": func(t *testing.T, _ *world) backend.Interface { return newLocal(t) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			w := newWorld(t)
			b := storage(t, w)
			cache := t.TempDir()
			_, err := repo.Open(ctx, w.options(b, cache, admin))
			w.wants(err, repo.ErrNoRepository)

			r, err := repo.Init(ctx, w.options(b, cache, ""), params())
			w.must(err)
			f := w.someFiles()
			id := w.mustBackup(r, "a", f)
			w.must(r.Close())

			_, err = repo.Init(ctx, w.options(b, cache, ""), params())
			w.wants(err, repo.ErrExists)
			_, err = repo.Open(ctx, w.options(b, cache, "other"))
			w.wants(err, seal.ErrWrongSecret)
			if errors.Is(err, repo.ErrDamage) {
				t.Error("a wrong passphrase is not damage")
			}
			if _, err = repo.Open(ctx, w.options(b, cache, "")); err == nil {
				t.Error("opened without any secret")
			}

			o := w.options(b, cache, "other")
			o.Secrets = append(o.Secrets, secret(admin))
			again, err := repo.Open(ctx, o)
			w.must(err)
			defer again.Close()
			if again.ID() != r.ID() || again.Access() != seal.Full || again.Config().PackSize != 1<<16 {
				t.Error("another repository was opened")
			}
			w.has(again, id, f)
			w.mustBeSound(again)
			slots, err := again.Slots()
			w.must(err)
			if len(slots) != 1 || slots[0].Label != "first" || !slots[0].Current || slots[0].Access != seal.Full {
				t.Errorf("slots are %+v", slots)
			}
		})
	}
}

func TestInitNeedsLock(t *testing.T) {
	w := newWorld(t)
	p := params()
	p.Lock = nil
	if _, err := repo.Init(t.Context(), w.options(w.storage, "", ""), p); err == nil {
		t.Error("a repository without a key")
	}
	if names := w.names(""); len(names) > 0 {
		t.Errorf("left %q behind", names)
	}
}

// A pack would take none of its larger chunks.
func TestInitRefusesLargeChunks(t *testing.T) {
	w := newWorld(t)
	p := params()
	p.Chunker = chunk.ParamsOf(chunk.FastCDC, pack.MaxChunk/2)
	if _, err := repo.Init(t.Context(), w.options(w.storage, "", ""), p); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("made a repository with chunks of up to %d bytes: %v", p.Chunker.Max, err)
	}
	if names := w.names(""); len(names) > 0 {
		t.Errorf("left %q behind", names)
	}
}

func TestRacingInits(t *testing.T) {
	w := newWorld(t)
	cache := t.TempDir()
	const n = 4
	repos := make([]*repo.Repository, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { repos[i], errs[i] = repo.Init(t.Context(), w.options(w.storage, cache, ""), params()) })
	}
	wg.Wait()
	var winner *repo.Repository
	for i, err := range errs {
		switch {
		case err == nil && winner == nil:
			winner = repos[i]
			defer winner.Close()
		case err == nil:
			t.Error("two made the repository")
		case !errors.Is(err, repo.ErrExists):
			t.Error(err)
		}
	}
	if winner == nil {
		t.Fatal("nobody made the repository")
	}
	r := w.machine(cache, admin)
	if r.ID() != winner.ID() {
		t.Error("another one's repository was opened")
	}
	w.isSound()
}

func TestKindsOfSecrets(t *testing.T) {
	w := newRepository(t)
	ctx := t.Context()
	r := w.stranger(admin)
	identity, err := seal.NewIdentity(w.random)
	w.must(err)
	recovery, err := seal.NewRecoveryKey(w.random)
	w.must(err)
	f := w.someFiles()
	id := w.mustBackup(r, "a", f)
	for _, n := range []repo.NewSlot{
		{Lock: identity.Recipient(), Access: seal.Full, Label: "identity"},
		{Lock: recovery, Access: seal.Full, Label: "recovery"},
	} {
		_, err := r.AddSlot(ctx, n)
		w.must(err)
	}
	for label, key := range map[string]seal.Unlocker{"identity": identity, "recovery": recovery} {
		o := w.options(w.storage, "", "")
		o.Secrets = []seal.Unlocker{key}
		r, err := repo.Open(ctx, o)
		w.must(err)
		defer r.Close()
		w.has(r, id, f)
		slots, err := r.Slots()
		w.must(err)
		for _, s := range slots {
			if s.Current != (s.Label == label) || s.Current != (s.ID == r.SlotID()) {
				t.Errorf("%s: slot %+v", label, s)
			}
		}
	}
	other, err := seal.NewIdentity(w.random)
	w.must(err)
	o := w.options(w.storage, "", "")
	o.Secrets = []seal.Unlocker{other}
	_, err = repo.Open(ctx, o)
	w.wants(err, seal.ErrWrongSecret)
}

// A slot that is gone or damaged keeps no other one from opening.
func TestDamagedSlot(t *testing.T) {
	w := newRepository(t)
	first := w.names("keys/")[0]
	w.addSlot("second", seal.Full)
	object := w.object(first)
	for name, damage := range map[string]func(){
		"missing": func() { w.delete(first) },
		"flipped": func() { w.replace(first, flipped(object, len(object)/2)) },
		"cut off": func() { w.replace(first, object[:100]) },
		"empty":   func() { w.replace(first, nil) },
	} {
		damage()
		r := w.stranger("second")
		report := w.check(r)
		if len(report.Problems) != 1 || report.Problems[0].Object != first {
			t.Errorf("%s: the check says %+v", name, report.Problems)
		}
		// Nobody can tell whether the passphrase was that of the bad slot.
		_, err := repo.Open(t.Context(), w.options(w.storage, "", admin))
		w.wants(err, repo.ErrDamage)
		w.replace(first, object)
	}
	w.isSound()
}

// A slot that config does not list opens nothing, even if the admin signed it.
func TestUnlistedSlot(t *testing.T) {
	w := newRepository(t)
	id := w.addSlot("second", seal.Full)
	name := "keys/" + id.String()
	object := w.object(name)
	w.must(w.stranger(admin).RemoveSlot(t.Context(), id))
	w.replace(name, object)
	_, err := repo.Open(t.Context(), w.options(w.storage, "", "second"))
	w.wants(err, seal.ErrWrongSecret)
	if report := w.check(w.stranger(admin)); len(report.Problems) > 0 || len(report.Leftovers) != 1 {
		t.Errorf("the check says %+v, %q", report.Problems, report.Leftovers)
	}
}

// flipped returns p with the bits of byte i inverted.
func flipped(p []byte, i int) []byte {
	p = bytes.Clone(p)
	p[i] ^= 0xff
	return p
}

func TestDamagedConfig(t *testing.T) {
	w := newRepository(t)
	config := w.object("config")
	open := func(what string, at int, object []byte) {
		t.Helper()
		w.replace("config", object)
		r, err := repo.Open(t.Context(), w.options(w.storage, "", admin))
		if err == nil {
			r.Close()
		}
		if !errors.Is(err, repo.ErrDamage) {
			t.Errorf("%s %d: %v", what, at, err)
		}
	}
	for i := range config {
		open("flipped byte", i, flipped(config, i))
	}
	for n := 0; n < len(config); n += 97 {
		open("cut off at", n, config[:n])
	}
	open("longer by", 1, append(bytes.Clone(config), 0))
	w.replace("config", config)
	w.isSound()
}

// A machine knows which repository stands where, and how new its config was.
func TestPin(t *testing.T) {
	w := newRepository(t)
	cache := t.TempDir()
	r := w.machine(cache, admin)
	old := w.object("config")

	other := w.on(t, mem.New(w.now)) // not newWorld, whose random keys would be the same
	o, err := repo.Init(t.Context(), other.options(other.storage, "", ""), params())
	w.must(err)
	w.must(o.Close())
	_, err = repo.Open(t.Context(), w.options(other.storage, cache, admin))
	w.wants(err, repo.ErrDamage)
	if _, err := repo.Open(t.Context(), w.options(other.storage, "", admin)); err != nil {
		t.Errorf("a machine that never saw the first one: %v", err)
	}

	_, err = r.AddSlot(t.Context(), repo.NewSlot{Lock: secret("second"), Access: seal.Full})
	w.must(err)
	w.replace("config", old)
	_, err = repo.Open(t.Context(), w.options(w.storage, cache, admin))
	w.wants(err, repo.ErrDamage)
	// Nor does a repository that is open build on the old one.
	_, err = r.AddSlot(t.Context(), repo.NewSlot{Lock: secret("third"), Access: seal.Full})
	w.wants(err, repo.ErrDamage)
}

// An end of config's list of slots is no way to be locked out.
func TestLastFullSlot(t *testing.T) {
	w := newRepository(t)
	ctx := t.Context()
	r := w.stranger(admin)
	w.addSlot("host", seal.WriteOnly)
	if err := r.RemoveSlot(ctx, r.SlotID()); err == nil {
		t.Fatal("removed the last key that reads")
	}
	if err := r.RemoveSlot(ctx, seal.SlotID{1}); err == nil {
		t.Error("removed a slot that is not there")
	}
	second := w.addSlot("second", seal.Full)
	w.must(w.stranger(admin).RemoveSlot(ctx, r.SlotID()))
	_, err := repo.Open(ctx, w.options(w.storage, "", admin))
	w.wants(err, seal.ErrWrongSecret)
	if got := w.stranger("second").SlotID(); got != second {
		t.Errorf("opened slot %s", got.Short())
	}
	w.mustBeSound(w.stranger("second"))
}

// Two that change the keys at once: none overwrites the other.
func TestRacingSlotChanges(t *testing.T) {
	w := newRepository(t)
	const n = 4
	errs := make([]error, n)
	names := []string{"a", "b", "c", "d"}
	repos := make([]*repo.Repository, n)
	for i := range n {
		repos[i] = w.stranger(admin)
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			_, errs[i] = repos[i].AddSlot(t.Context(), repo.NewSlot{Lock: secret(names[i]), Access: seal.Full})
		})
	}
	wg.Wait()
	for i, err := range errs {
		want := error(nil)
		if err != nil {
			w.wants(err, repo.ErrFenced)
			want = seal.ErrWrongSecret
		}
		r, err := repo.Open(t.Context(), w.options(w.storage, "", names[i]))
		if !errors.Is(err, want) {
			t.Errorf("slot %s: %v, want %v", names[i], err, want)
		}
		if err == nil {
			r.Close()
		}
	}
	w.isSound()
}

func TestTemporaryCacheGoes(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	w := newWorld(t)
	r, err := repo.Init(t.Context(), w.options(w.storage, "", ""), params())
	w.must(err)
	w.mustBackup(r, "a", w.someFiles())
	w.must(r.Close())
	if _, err := repo.Open(t.Context(), w.options(w.storage, "", "wrong")); err == nil {
		t.Error("opened")
	}
	left, err := os.ReadDir(os.TempDir())
	w.must(err)
	if len(left) > 0 {
		t.Errorf("%s is left behind", left[0].Name())
	}
}

// A storage that can't swap can't hold a repository.
func TestInitNeedsSwapper(t *testing.T) {
	w := newWorld(t)
	bare := struct{ backend.Interface }{mem.New(w.now)}
	if _, err := repo.Init(t.Context(), w.options(bare, "", ""), params()); err == nil {
		t.Error("made a repository where config can't be changed")
	}
}

// A change of config whose answer was lost has succeeded, once a second one says that
// it will last.
func TestLostAnswerToSwap(t *testing.T) {
	w := newWorld(t)
	in, err := faulty.Parse("swap * #1: done-but-error\nswap * #3: done-but-error\nswap * #5: done-but-error")
	w.must(err)
	b := in.Wrap(w.storage)
	r, err := repo.Init(t.Context(), w.options(b, "", ""), params())
	w.must(err)
	defer r.Close()
	id, err := r.AddSlot(t.Context(), repo.NewSlot{Lock: secret("host"), Access: seal.WriteOnly})
	w.must(err)
	w.mustBackup(w.stranger("host"), "a", w.someFiles())
	w.must(r.RemoveSlot(t.Context(), id))
	w.mustBackup(r, "b", w.someFiles())
	w.isSound()
}
