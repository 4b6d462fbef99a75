package repo

import (
	"context"
	"errors"
	"fmt"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/repo/cache"
	"github.com/cairn-backup/cairn/repo/config"
)

// configFile is the cache's copy of config. Config is signed, and holds nothing that
// the storage does not see.
const configFile = "config"

// MendConfig puts config back where it is missing or can't be read, if this
// machine's cache has a copy: without config nothing can be opened. It reports
// whether it did, or in a dry run would do. A config that can be read is never replaced, whatever it is. It
// needs no secret.
func MendConfig(ctx context.Context, opts Options, dryRun bool) (bool, error) {
	old, err := backend.ReadAll(ctx, opts.Storage, configName, maxConfig)
	missing := errors.Is(err, backend.ErrNotExist)
	switch {
	case err == nil:
		if _, err := config.Parse(old); err == nil {
			return false, nil
		}
	case !missing && !errors.Is(err, backend.ErrTooLong):
		return false, fmt.Errorf("read config: %w", err)
	}
	object, c := keptConfig(opts)
	if c == nil {
		return false, nil
	}
	r := &Repository{opts: opts, storage: opts.Storage, id: c.ID(), config: c}
	if err := r.openCache(); err != nil {
		return false, err
	}
	defer r.closeMachine()
	// An empty place may be a disk that is not mounted: there must be some slot
	// of this config.
	found := false
	for _, s := range c.Slots {
		_, err := r.loadSlot(ctx, s)
		if err != nil && !errors.Is(err, ErrDamage) {
			return false, err
		}
		found = found || err == nil
	}
	if !found || dryRun {
		return found, nil
	}
	switch {
	case missing:
		err = swap(ctx, opts.Storage, configName, nil, object)
	case old == nil: // too long to be swapped
		if err = opts.Storage.Delete(ctx, configName); err == nil {
			err = swap(ctx, opts.Storage, configName, nil, object)
		}
	default:
		err = swap(ctx, opts.Storage, configName, old, object)
	}
	if err != nil {
		return false, fmt.Errorf("store config: %w", err)
	}
	return true, nil
}

// keptConfig returns the copy of config of the repository that this machine saw at a
// place.
func keptConfig(opts Options) ([]byte, *config.Config) {
	if opts.Cache == "" {
		return nil, nil
	}
	id, ok := cache.Pinned(opts.Cache, opts.Storage.String())
	if !ok {
		return nil, nil
	}
	d, err := cache.Open(opts.Cache, id)
	if err != nil {
		return nil, nil
	}
	defer d.Close()
	object, ok := d.Kept(configFile)
	if !ok {
		return nil, nil
	}
	c, err := config.Parse(object)
	if err != nil || c.ID() != id {
		return nil, nil
	}
	return object, c
}
