// Package repo is where formats meet storage: it opens and makes
// repositories, writes and reads chunks, keeps the chain of manifests, and
// checks that all is there. Everything above it speaks of snapshots and
// chunks, everything beneath of bytes or of objects.
//
// A Repository is safe for concurrent use by many goroutines, and a storage by
// many Repositories on many machines: nothing here takes a lock that
// stops others. How writers and prune stay out of each other's way is in
// docs/design.md, section "Writers without a lock".
package repo

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo/cache"
	"github.com/cairn-backup/cairn/repo/config"
	"github.com/cairn-backup/cairn/seal"
)

// Options say which repository to use and how.
type Options struct {
	Storage backend.Interface
	// Secrets are tried in turn on the slots of the repository.
	Secrets []seal.Unlocker
	// Cache is the folder in which this machine keeps what spares reading the
	// storage again, and what it knows of each repository. A write-only key
	// needs it for incremental snapshots. Empty: a temporary folder.
	Cache string
	// Now and Random are time.Now and crypto/rand.Reader if nil.
	Now    func() time.Time
	Random io.Reader
	// Goroutines is how many encode and decode at once; 0 means one a CPU.
	Goroutines int
	// Observer hears what happens. All its callbacks may be nil.
	Observer Observer
}

// Observer has callbacks for what the engine does. They may be called
// concurrently and must not block for long.
type Observer struct {
	// PackStored: a pack is durable.
	PackStored func(name string, size int64)
	// Warning: something is odd but the work goes on.
	Warning func(error)
}

func (o *Observer) packStored(name string, size int64) {
	if o.PackStored != nil {
		o.PackStored(name, size)
	}
}

func (o *Observer) warn(err error) {
	if o.Warning != nil && err != nil {
		o.Warning(err)
	}
}

func (o *Options) setDefaults() {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Goroutines <= 0 {
		o.Goroutines = runtime.GOMAXPROCS(0)
	}
}

// Repository is an open repository. Close it when done.
type Repository struct {
	opts    Options
	storage backend.Interface
	id      seal.RepositoryID
	config  *config.Config
	slot    config.Slot
	bundle  *seal.Bundle
	ring    *seal.Keyring
	private *seal.PrivateKey // nil if the key is write-only
	signing ed25519.PrivateKey

	cache   *cache.Dir
	local   atomic.Pointer[index.Local] // see index
	known   atomic.Pointer[knownManifests]
	opening sync.Mutex // held while the local index is opened
	moving  sync.Mutex // held while the local index is moved
	spare   string     // the folder that it was moved to, if it was

	decoder     *pack.Decoder
	hashers     map[seal.Place]*chunk.Hasher
	packs       packKeys
	recentBases baseCache

	// orphans is the index of packs that no segment knows, read from their
	// directories when a chunk was not found otherwise; nil before that.
	orphans   atomic.Pointer[orphans]
	orphansMu sync.Mutex // held while they are read
	saveEvery int64      // bytes of packs; tests set it
	atOnce    int        // instead of condemnAtOnce; tests set it
	loads     indexLoads

	omit step // of the protocol, by tests
}

// maxConfig bounds a config object: thousands of slots and epochs.
const maxConfig = 64 << 20

// maxSlot bounds a slot object.
const maxSlot = 1 << 16

// Open opens the repository in opts.Storage. The error is ErrNoRepository,
// seal.ErrWrongSecret if no secret opens any slot, or ErrDamage.
func Open(ctx context.Context, opts Options) (*Repository, error) {
	opts.setDefaults()
	object, err := readWhole(ctx, opts.Storage, configName, maxConfig)
	if errors.Is(err, backend.ErrNotExist) {
		if err := Look(ctx, opts.Storage); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w at %s: config came and went", ErrNoRepository, opts.Storage)
	}
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	c, err := config.Parse(object)
	if err != nil {
		return nil, damaged(configName, err)
	}
	r := &Repository{opts: opts, storage: opts.Storage, id: c.ID(), config: c}
	if err := r.openCache(); err != nil {
		return nil, err
	}
	if err := r.open(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if err := r.cache.Keep(configFile, object); err != nil {
		opts.Observer.warn(err)
	}
	return r, nil
}

func (r *Repository) open(ctx context.Context) error {
	if err := r.pin(r.config.Generation); err != nil {
		return err
	}
	slot, bundle, err := r.unlock(ctx)
	if err != nil {
		return err
	}
	return r.use(slot, bundle)
}

// use sets up all that depends on the secrets of a slot.
func (r *Repository) use(slot config.Slot, bundle *seal.Bundle) error {
	r.slot, r.bundle, r.signing = slot, bundle, bundle.SigningKey()
	key, err := bundle.SlotKey()
	if err != nil {
		return err
	}
	if r.ring, err = r.config.Keyring(slot.ID, key); err != nil {
		return damaged(configName, err)
	}
	if bundle.Access == seal.Full {
		if r.private, err = bundle.RepositoryKey(); err != nil {
			return err
		}
	}
	r.adopt(r.config, r.ring)
	r.decoder, err = pack.NewDecoder(r.opts.Goroutines)
	return err
}

// adopt makes a config and the keys that it gives this slot the ones to work
// with. It must not run beside other methods.
func (r *Repository) adopt(c *config.Config, ring *seal.Keyring) {
	r.config, r.ring = c, ring
	r.hashers = make(map[seal.Place]*chunk.Hasher)
	for _, e := range c.Epochs {
		if k, ok := ring.Keys(e.Place); ok {
			r.hashers[e.Place] = chunk.NewHasher(chunk.Keys{Data: k.ChunkData, Node: k.ChunkNode, List: k.ChunkList})
		}
	}
	if place, ok := c.Current(r.slot.Domain); ok {
		if k, ok := ring.Keys(place); ok {
			r.cache.SetKey(k.Cache)
		}
	}
}

// Close releases what the repository holds on this machine.
func (r *Repository) Close() error { return r.closeMachine() }

// ID returns the repository's ID.
func (r *Repository) ID() seal.RepositoryID { return r.id }

// Config returns the repository's config, which the caller must not change.
func (r *Repository) Config() *config.Config { return r.config }

// Access returns what the key that opened the repository may do.
func (r *Repository) Access() seal.Access { return r.bundle.Access }

// Goroutines returns how many goroutines should encode or decode at once.
func (r *Repository) Goroutines() int { return r.opts.Goroutines }

// SlotID returns the slot that opened the repository.
func (r *Repository) SlotID() seal.SlotID { return r.slot.ID }

// Splitter returns the splitter that new contents are cut with.
func (r *Repository) Splitter() (chunk.Splitter, error) {
	k, err := r.writeKeys()
	if err != nil {
		return nil, err
	}
	return chunk.NewSplitter(r.config.Chunker, k.Chunker)
}

// writePlace is where this repository's key writes: the newest epoch of its
// domain.
func (r *Repository) writePlace() (seal.Place, error) {
	p, ok := r.config.Current(r.slot.Domain)
	if !ok {
		return p, damaged(configName, fmt.Errorf("no epoch in domain %d", r.slot.Domain))
	}
	return p, nil
}

func (r *Repository) writeKeys() (*seal.Keys, error) {
	p, err := r.writePlace()
	if err != nil {
		return nil, err
	}
	k, ok := r.ring.Keys(p)
	if !ok {
		return nil, fmt.Errorf("%s: %w: this key was revoked", p, seal.ErrNoKey)
	}
	return k, nil
}

// WriteKeys returns the keys that new snapshots use.
func (r *Repository) WriteKeys() (*seal.Keys, error) { return r.writeKeys() }

// swap changes an object by compare-and-swap, which config and condemned need.
// After an error it looks whether only the answer was lost. If it sees what it wrote,
// that is its own, as nobody else writes the same random salts and signatures; but
// what is merely seen may vanish with the power, so it swaps the object for itself.
func swap(ctx context.Context, b backend.Interface, name string, old, new []byte) error {
	s, ok := b.(backend.Swapper)
	if !ok {
		return fmt.Errorf("%s cannot change an object atomically, which this needs", b)
	}
	err := s.Swap(ctx, name, old, new)
	if err == nil {
		return nil
	}
	if there, rerr := backend.ReadAll(ctx, b, name, int64(len(new))); rerr != nil || !bytes.Equal(there, new) {
		return err
	}
	if s.Swap(ctx, name, new, new) != nil {
		return err
	}
	return nil
}
