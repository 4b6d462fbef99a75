package repo_test

import (
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/repo"
)

// TestLook: a repository that has lost config is no empty place. A new one made there
// would take the name of the old config, which machines have copies of.
func TestLook(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t)
	w.wants(repo.Look(ctx, w.storage), repo.ErrNoRepository)
	// What an Init leaves that was killed is no repository.
	w.must(backend.PutBytes(ctx, w.storage, "keys/"+strings.Repeat("0", 64), []byte("slot")))
	w.wants(repo.Look(ctx, w.storage), repo.ErrNoRepository)

	cache := t.TempDir()
	r, err := repo.Init(ctx, w.options(w.storage, cache, ""), params())
	w.must(err)
	w.mustBackup(r, "a", w.someFiles())
	w.must(r.Close())
	w.must(repo.Look(ctx, w.storage))

	w.must(w.storage.Delete(ctx, "config"))
	w.must(w.storage.Delete(ctx, "condemned"))
	w.wants(repo.Look(ctx, w.storage), repo.ErrDamage)
	_, err = repo.Init(ctx, w.options(w.storage, t.TempDir(), ""), params())
	w.wants(err, repo.ErrDamage)
	_, err = repo.Open(ctx, w.options(w.storage, t.TempDir(), admin))
	w.wants(err, repo.ErrDamage)

	// Nothing took its place, so it can come back.
	mended, err := repo.MendConfig(ctx, w.options(w.storage, cache, ""), false)
	w.must(err)
	if !mended {
		t.Error("config did not come back")
	}
}
