package repo

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo/config"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
)

// DefaultPackSize is what a pack should reach, in bytes.
const DefaultPackSize = 32 << 20

// Params are what a new repository is made with. Zero values mean the
// defaults.
type Params struct {
	Chunker     chunk.Params
	Compression pack.Compression
	PackSize    int
	// Lock makes the first slot, with full access.
	Lock  seal.Locker
	Label string // of the first slot, for people
}

// Init makes a repository in opts.Storage and opens it. opts.Secrets is not
// used. The error is ErrExists if there is one, and ErrDamage if there is one that has
// lost its config.
func Init(ctx context.Context, opts Options, p Params) (*Repository, error) {
	opts.setDefaults()
	if err := p.setDefaults(); err != nil {
		return nil, err
	}
	switch err := Look(ctx, opts.Storage); {
	case err == nil:
		return nil, fmt.Errorf("%w at %s", ErrExists, opts.Storage)
	case !errors.Is(err, ErrNoRepository):
		return nil, err
	}
	if _, ok := opts.Storage.(backend.Swapper); !ok {
		return nil, fmt.Errorf("%s cannot change an object atomically, which a repository needs", opts.Storage)
	}

	bundle := &seal.Bundle{Access: seal.Full}
	for _, seed := range [][]byte{bundle.Slot[:], bundle.Signing[:], bundle.Repository[:]} {
		if _, err := io.ReadFull(opts.Random, seed); err != nil {
			return nil, fmt.Errorf("read random bytes: %w", err)
		}
	}
	private, err := bundle.RepositoryKey()
	if err != nil {
		return nil, err
	}
	c := &config.Config{
		Generation:  1,
		Created:     opts.Now(),
		Admin:       seal.SignerOf(bundle.SigningKey()),
		Public:      private.Public(),
		Chunker:     p.Chunker,
		Compression: p.Compression,
		PackSize:    uint32(p.PackSize),
	}
	ring := seal.NewKeyring(c.ID())
	if _, err := c.NewEpoch(opts.Random, ring, 0); err != nil {
		return nil, err
	}
	slot, object, err := newSlot(opts.Random, c, p.Lock, bundle, 0, bundle.SigningKey())
	if err != nil {
		return nil, err
	}
	c.Slots = append(c.Slots, slot)
	if err := c.Grant(ring, slot); err != nil {
		return nil, err
	}
	note := config.Note{Slot: slot.ID, Created: c.Created, Label: p.Label}
	if err := c.SetNotes(opts.Random, ring, []config.Note{note}); err != nil {
		return nil, err
	}

	// What this machine may refuse comes before anything is made.
	r := &Repository{opts: opts, storage: opts.Storage, id: c.ID(), config: c}
	if err := r.openCache(); err != nil {
		return nil, err
	}
	if err := r.create(ctx, slot, object, bundle); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// create stores the first slot and the config, and sets the repository up.
func (r *Repository) create(ctx context.Context, slot config.Slot, object []byte, bundle *seal.Bundle) error {
	// The slot goes first: a config never names a slot that is not there. Of
	// two that make a repository at once, one loses here.
	if err := backend.PutBytes(ctx, r.storage, slotsPrefix+slot.ID.String(), object); err != nil {
		return fmt.Errorf("store key slot: %w", err)
	}
	sealed := r.config.Seal(bundle.SigningKey())
	if err := swap(ctx, r.storage, configName, nil, sealed); err != nil {
		if errors.Is(err, backend.ErrConflict) {
			return fmt.Errorf("%w at %s", ErrExists, r.storage)
		}
		return fmt.Errorf("store config: %w", err)
	}
	// No writer goes on while this is not the admin's, so whoever may only create
	// objects must not find the name free.
	list := protocol.Condemned{Generation: 1, Phase: protocol.Empty}
	if err := swap(ctx, r.storage, condemnedName, nil, list.Sign(r.id, bundle.SigningKey())); err != nil {
		return fmt.Errorf("store the list of condemned packs: %w", err)
	}
	if err := r.pin(r.config.Generation); err != nil {
		return err
	}
	if err := r.tolerate(r.cache.Keep(configFile, sealed)); err != nil {
		return err
	}
	if err := r.use(slot, bundle); err != nil {
		return err
	}
	r.cache.Put(slotClass, slot.ID, object)
	return nil
}

func (p *Params) setDefaults() error {
	if p.Chunker == (chunk.Params{}) {
		p.Chunker = chunk.DefaultParams()
	}
	if err := p.Chunker.Validate(); err != nil {
		return err
	}
	if p.Chunker.Max > pack.MaxChunk {
		return fmt.Errorf("chunker: maximum of %d bytes is too large: a pack takes chunks of up to %d", p.Chunker.Max, pack.MaxChunk)
	}
	if p.Compression == 0 {
		p.Compression = pack.Fastest
	}
	if p.PackSize == 0 {
		p.PackSize = DefaultPackSize
	}
	if p.Lock == nil {
		return errors.New("a repository needs a passphrase or a recipient")
	}
	return nil
}
