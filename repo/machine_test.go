package repo_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/backend/faulty"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
)

// A cache folder that can't be is found out before a repository is made there.
func TestInitTriesTheCacheFirst(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "file")
	w.must(os.WriteFile(file, nil, 0o600))
	if _, err := repo.Init(t.Context(), w.options(w.storage, file, ""), params()); err == nil {
		t.Fatal("a file passed for a cache folder")
	}
	if names := w.names(""); len(names) > 0 {
		t.Errorf("it left %q", names)
	}
}

// A cache that can't be written is no damage of the repository.
func TestUnusableCacheIsNoDamage(t *testing.T) {
	w := newRepository(t)
	cache := t.TempDir()
	w.must(os.WriteFile(filepath.Join(cache, "locations"), nil, 0o600)) // where a folder should be
	_, err := repo.Open(t.Context(), w.options(w.storage, cache, admin))
	if err == nil || errors.Is(err, repo.ErrDamage) {
		t.Errorf("got %v, want an error that is not one of damage", err)
	}
}

// A key is removed when config does not list it any more. That its slot can't be
// deleted is worth a warning, and not an error that says that it was not removed.
func TestRemovedSlotCannotBeDeleted(t *testing.T) {
	w := newRepository(t)
	id := w.addSlot("old", seal.Full)
	in, err := faulty.Parse("delete keys/*: err EACCES")
	w.must(err)
	o := w.options(in.Wrap(w.storage), "", admin)
	var warnings []string
	o.Observer.Warning = func(err error) { warnings = append(warnings, err.Error()) }
	r, err := repo.Open(t.Context(), o)
	w.must(err)
	w.must(r.RemoveSlot(t.Context(), id))
	w.must(r.Close())
	if len(warnings) != 1 || !strings.Contains(warnings[0], "the key is removed") {
		t.Errorf("warnings: %q", warnings)
	}
	_, err = repo.Open(t.Context(), w.options(w.storage, "", "old"))
	w.wants(err, seal.ErrWrongSecret)
}
