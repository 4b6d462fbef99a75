package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/seal"
)

// readPacks reads whole packs, as many as told: the name, the directory, every frame,
// every chunk's ID, and the padding. Deltas are decoded, so their bases are read as well. That
// one of these can't be had is told if a snapshot needs what hangs on it: prune may have
// deleted it when nothing was needed any more.
func (c *checker) readPacks(ctx context.Context) error {
	if c.opts.Read == (Sample{}) {
		return nil
	}
	if err := c.learn(ctx); err != nil {
		return err
	}
	packs, err := c.verified.sample(c.expected(), c.opts.Read)
	if err != nil {
		return err
	}
	var total int64
	for _, info := range packs {
		total += info.Size
	}
	var mu sync.Mutex
	bad := make(map[Ref]*finding)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.Repository.opts.Goroutines)
	for _, info := range packs {
		g.Go(func() error {
			s, err := c.readPack(gctx, info)
			if errors.Is(err, seal.ErrNoKey) {
				return nil // of an epoch that began after this check
			}
			if err != nil {
				return err
			}
			gone, err := c.isGone(gctx, info, s)
			if err != nil || gone {
				return err
			}
			if err := c.verified.note(info, s.err == nil); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			c.report.ReadPacks++
			c.report.ReadBytes += info.Size
			c.progress("bytes of packs", c.report.ReadBytes, total)
			for _, b := range s.baseless {
				c.unread[b.base] = b.err
			}
			if s.err == nil {
				return nil
			}
			f := c.once(info.Name, s.err)
			for _, ref := range s.bad {
				bad[ref] = f
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for ref, f := range bad {
		// Reading alone proves that another pack has it.
		if _, err := c.Chunk(ctx, ref); errors.Is(err, ErrDamage) {
			c.lose(ref.ID, f)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// learn reads what readPacks must know, and tells of nothing that is wrong: the steps
// that come after the reading look at it anew.
func (c *checker) learn(ctx context.Context) (err error) {
	if c.condemned, err = c.readCondemned(ctx); err != nil && !errors.Is(err, ErrDamage) {
		return err
	}
	bad := func(string, error) {}
	if err := c.loadIndex(ctx, bad); err != nil {
		return err
	}
	return c.compare(ctx, bad)
}

// isGone reports whether what is wrong with a pack is that it was deleted since it was
// listed. Whether that was right is seen by what comes after the reading.
func (c *checker) isGone(ctx context.Context, info backend.Info, s scanned) (bool, error) {
	if s.err == nil {
		return false, nil
	}
	_, err := c.storage.Stat(ctx, info.Name)
	if err != nil && !errors.Is(err, backend.ErrNotExist) {
		return false, fmt.Errorf("look for a pack: %w", err)
	}
	return err != nil, nil
}

func compareChunks(a, b chunk.ID) int { return bytes.Compare(a[:], b[:]) }
