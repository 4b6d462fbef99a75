package repo

import (
	"context"
	"fmt"
	"os"

	"github.com/cairn-backup/cairn/backend"
)

// stage begins an object whose name is known only at its end: in the storage
// itself if it can do that, else in a temporary file that is then put.
func stage(ctx context.Context, b backend.Interface) (backend.Staged, error) {
	if s, ok := b.(backend.Stager); ok {
		return s.Stage(ctx)
	}
	f, err := os.CreateTemp("", "cairn-pack-")
	if err != nil {
		return nil, fmt.Errorf("make temporary file: %w", err)
	}
	// Without a name it vanishes with the process, however that ends.
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("unlink temporary file: %w", err)
	}
	return &spooled{storage: b, file: f}, nil
}

// spooled is an object that waits in a local file.
type spooled struct {
	storage backend.Interface
	file    *os.File
	size    int64
}

func (s *spooled) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	s.size += int64(n)
	return n, err
}

func (s *spooled) Commit(ctx context.Context, name string) error {
	defer s.file.Close()
	return s.storage.Put(ctx, name, s.file, s.size)
}

func (s *spooled) Abort() error { return s.file.Close() }
