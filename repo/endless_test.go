package repo_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/repo"
)

// endless is a storage with an object that never ends.
type endless struct {
	*mem.Mem
	name string
}

var _ backend.Full = (*endless)(nil)

func (e *endless) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if name == e.name {
		return io.NopCloser(zeros{}), nil
	}
	return e.Mem.Open(ctx, name)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestEndlessObjects: no object, however long, keeps a reader for ever or fills its
// memory. It is damage like any other.
func TestEndlessObjects(t *testing.T) {
	whole := newWhole(t)
	for role, name := range whole.roles {
		if racing && slices.Contains([]string{"config", "condemned", "tombstone", "index"}, role) {
			continue // the limits are 64 MiB and more, and no two goroutines read one
		}
		w := whole.on(t, whole.storage.Clone())
		storage := &endless{w.storage, name}
		o := w.options(storage, "", admin)
		o.Secrets = append(o.Secrets, secret("second"))
		r, err := repo.Open(t.Context(), o)
		if role == "config" {
			w.wants(err, repo.ErrDamage)
			continue
		}
		w.must(err)
		report, err := r.Check(t.Context(), all)
		w.must(err)
		found := strings.Contains(strings.Join(problems(report), " "), name)
		if needed := role != "forgotten manifest"; found != needed {
			t.Errorf("%s: the check says %v", role, problems(report))
		}
		w.must(r.Close())
	}
}
