package repo

import (
	"context"
	"errors"
	"fmt"

	"github.com/cairn-backup/cairn/backend"
)

var errConfigLost = errors.New("it is missing, and other objects of a repository are there")

// Look finds out, without a key, whether there is a repository. The error is
// ErrNoRepository if there is none, and matches ErrDamage if only config is missing: to
// make a new repository over the rest would be the end of that.
func Look(ctx context.Context, storage backend.Interface) error {
	_, err := storage.Stat(ctx, configName)
	if err == nil {
		return nil
	}
	if !errors.Is(err, backend.ErrNotExist) {
		return fmt.Errorf("look for config: %w", err)
	}
	// Key slots are no sign: an Init that was killed leaves one.
	for _, prefix := range []string{snapshotsPrefix, indexPrefix, metaPrefix, dataPrefix, leasesPrefix, tombstonesPrefix} {
		for _, err := range storage.List(ctx, prefix) {
			if err != nil {
				return fmt.Errorf("look for a repository: %w", err)
			}
			return damaged(configName, errConfigLost)
		}
	}
	return fmt.Errorf("%w at %s", ErrNoRepository, storage)
}
