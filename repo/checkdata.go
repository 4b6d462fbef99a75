package repo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
)

// sample chooses some of the packs, in an order that is random unless it is all
// of them.
func (r *Repository) sample(packs []backend.Info, s Sample) ([]backend.Info, error) {
	if s.Percent >= 100 {
		return packs, nil
	}
	budget := s.Bytes
	if s.Percent > 0 {
		var total int64
		for _, info := range packs {
			total += info.Size
		}
		budget = int64(s.Percent / 100 * float64(total))
	}
	for i := len(packs) - 1; i > 0; i-- {
		var b [8]byte
		if _, err := io.ReadFull(r.opts.Random, b[:]); err != nil {
			return nil, fmt.Errorf("read random bytes: %w", err)
		}
		j := int(binary.LittleEndian.Uint64(b[:]) % uint64(i+1))
		packs[i], packs[j] = packs[j], packs[i]
	}
	for i, info := range packs {
		if budget <= 0 {
			return packs[:i], nil
		}
		budget -= info.Size
	}
	return packs, nil
}

// readPacks reads whole packs: the name, the directory, every frame, every
// chunk's ID, and the padding.
func (c *checker) readPacks(ctx context.Context) error {
	if c.opts.Read == (Sample{}) {
		return nil
	}
	var all []backend.Info
	for id, info := range c.packs {
		if !c.isGoing(id) {
			all = append(all, info)
		}
	}
	packs, err := c.sample(all, c.opts.Read)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	bad := make(map[Ref]string)      // in which pack
	problems := make(map[string]int) // by pack
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.Repository.opts.Goroutines)
	var total int64
	for _, info := range packs {
		total += info.Size
	}
	for _, info := range packs {
		g.Go(func() error {
			s, err := c.readPack(gctx, info)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			c.report.ReadPacks++
			c.report.ReadBytes += info.Size
			c.progress("bytes of packs", c.report.ReadBytes, total)
			if s.err == nil {
				return nil
			}
			problems[info.Name] = c.once(info.Name, s.err)
			for _, ref := range s.bad {
				bad[ref] = info.Name
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for ref, name := range bad {
		// Reading alone proves that another pack has it.
		if _, err := c.Chunk(ctx, ref); errors.Is(err, ErrDamage) {
			n := problems[name]
			c.report.Problems[n].Chunks = append(c.report.Problems[n].Chunks, ref.ID)
			c.lost[ref.ID] = n
		} else if err != nil {
			return err
		}
	}
	for _, n := range problems {
		slices.SortFunc(c.report.Problems[n].Chunks, compareChunks)
	}
	return nil
}

func compareChunks(a, b chunk.ID) int { return bytes.Compare(a[:], b[:]) }
