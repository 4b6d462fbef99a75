package repo

import (
	"context"
	"errors"
	"fmt"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
)

// maxCondemned bounds the condemned object, in bytes: two million packs.
const maxCondemned = 64 << 20

// condemnAtOnce is how many packs a prune or a repair condemns at most: 8 TB of full ones.
// So there is room for a few of them, and for leases.
const condemnAtOnce = 500_000

// readCondemned returns the packs that prune may delete at any time.
func (r *Repository) readCondemned(ctx context.Context) (map[pack.ID]bool, error) {
	c, _, err := r.loadCondemned(ctx)
	if err != nil {
		return nil, err
	}
	return condemnedSet(c), nil
}

// condemnedSet returns the packs of a list.
func condemnedSet(list *protocol.Condemned) map[pack.ID]bool {
	packs := make(map[pack.ID]bool, len(list.Packs))
	for _, c := range list.Packs {
		packs[c.ID] = true
	}
	return packs
}

// holdCondemned is readCondemned that makes sure that the list stays. One that was swapped in
// and not yet acknowledged is seen, and could vanish with the power: then packs would be
// condemned again on which somebody relies who has seen it. That nothing can be put in
// its place promises that it won't.
func (r *Repository) holdCondemned(ctx context.Context) (map[pack.ID]bool, error) {
	for {
		c, object, err := r.loadCondemned(ctx)
		if err != nil {
			return nil, err
		}
		if object == nil {
			return nil, nil
		}
		if err := backend.PutBytes(ctx, r.storage, condemnedName, object); err != nil && !errors.Is(err, backend.ErrExist) {
			return nil, fmt.Errorf("make sure of the condemned list: %w", err)
		}
		// The promise is of what is there now. Each list is of a generation of its own.
		again, _, err := r.loadCondemned(ctx)
		if err != nil {
			return nil, err
		}
		if again.Generation == c.Generation {
			return condemnedSet(c), nil
		}
	}
}

// loadCondemned reads the condemned list, an empty one if there is none. The object is
// that which was read, good or damaged: nil if there is none, or it is too long to be
// one.
func (r *Repository) loadCondemned(ctx context.Context) (c *protocol.Condemned, object []byte, err error) {
	object, err = readWhole(ctx, r.storage, condemnedName, maxCondemned)
	if errors.Is(err, backend.ErrNotExist) {
		return new(protocol.Condemned), nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read condemned list: %w", err)
	}
	c, by, err := protocol.OpenCondemned(object, r.id)
	if err != nil {
		return nil, object, damaged(condemnedName, err)
	}
	if by != r.config.Admin {
		return nil, object, damaged(condemnedName, fmt.Errorf("signed by %s, not by the admin", by.Short()))
	}
	return c, object, nil
}

// mendCondemned replaces a condemned list that can't be read, as nobody can write
// before that. Which packs were condemned is forgotten: none is deleted, and a
// prune that meets the new list begins anew.
func (p *repairer) mendCondemned(ctx context.Context) error {
	_, old, err := p.loadCondemned(ctx)
	if !errors.Is(err, ErrDamage) {
		return err
	}
	if by, ok := newerBy(old, seal.Condemned); ok && by == p.config.Admin {
		return fmt.Errorf("repair stops, as it can't tell which packs are about to go: the condemned list %w", seal.ErrNewer)
	}
	// A generation that no list had, as that of the old one can't be known.
	list := protocol.Condemned{Generation: uint64(p.Repository.opts.Now().UnixNano()), Phase: protocol.Empty}
	p.fixed(condemnedName, "replaced by an empty list, as it could not be read (%s)", firstLine(err))
	return p.replaceObject(ctx, condemnedName, old, list.Sign(p.id, p.signing))
}

// swapCondemned replaces the condemned list, whose object was old, by c. It gives c the
// next generation, so that no list comes twice, and returns its object. The error is
// backend.ErrConflict if somebody else was faster.
func (r *Repository) swapCondemned(ctx context.Context, old []byte, c *protocol.Condemned) (object []byte, err error) {
	if r.private == nil {
		return nil, ErrWriteOnly
	}
	c.Generation = 1
	if old != nil {
		before, _, err := protocol.OpenCondemned(old, r.id)
		if err != nil {
			return nil, damaged(condemnedName, err)
		}
		c.Generation = before.Generation + 1
	}
	object = c.Sign(r.id, r.signing)
	if len(object) > maxCondemned { // nobody could read it
		return nil, errors.New("store condemned list: it is full: run cairn prune first")
	}
	if err := swap(ctx, r.storage, condemnedName, old, object); err != nil {
		return nil, fmt.Errorf("store condemned list: %w", err)
	}
	return object, nil
}

// condemn puts the damaged packs on the list of those that no writer relies on.
// What they had is said by no segment any more, so prune will find them dead. Whoever
// began before may not have seen the list: prune waits for them.
func (p *repairer) condemn(ctx context.Context) error {
	if p.later > 0 {
		p.Repository.opts.Observer.warn(fmt.Errorf("%d more packs are damaged than can be condemned at once; they stay as they are: repair again, and prune first if it says this once more", p.later))
	}
	if len(p.bad) == 0 || p.opts.DryRun {
		return nil
	}
	for try := 1; ; try++ {
		c, old, err := p.loadCondemned(ctx)
		if err != nil {
			return err
		}
		if c.Phase == protocol.Final {
			return fmt.Errorf("%w: a prune is deleting packs; when it is done, repair again", ErrFenced)
		}
		c.Phase = protocol.Announced
		for id := range p.bad {
			c.Packs = append(c.Packs, protocol.CondemnedPack{Kind: packKindOf(p.packs[id].Name), ID: id})
		}
		_, err = p.swapCondemned(ctx, old, c)
		switch {
		case !errors.Is(err, backend.ErrConflict):
			return err
		case try == commitTries:
			return fmt.Errorf("%w: somebody else changes the condemned list at the same time", ErrFenced)
		}
	}
}
