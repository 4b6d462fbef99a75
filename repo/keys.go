package repo

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/repo/config"
	"github.com/cairn-backup/cairn/seal"
)

// loadSlot reads and verifies a slot of config's list.
func (r *Repository) loadSlot(ctx context.Context, s config.Slot) (*seal.Slot, error) {
	name := slotsPrefix + s.ID.String()
	object, err := readWhole(ctx, r.storage, name, maxSlot)
	if err != nil {
		if errors.Is(err, backend.ErrNotExist) {
			return nil, damaged(name, errors.New("the key slot is missing"))
		}
		return nil, fmt.Errorf("read key slot: %w", err)
	}
	slot, err := r.parseSlot(s, object)
	if err != nil {
		return nil, err
	}
	r.cache.Put(slotClass, s.ID, object)
	return slot, nil
}

// slotClass is the class of the cache that holds key slots, to put them back
// should the storage lose them. Like the rest of it they are sealed.
const slotClass = "slots"

// parseSlot verifies a slot of config's list.
func (r *Repository) parseSlot(s config.Slot, object []byte) (*seal.Slot, error) {
	name := slotsPrefix + s.ID.String()
	if err := checkDigest(s.ID, object); err != nil {
		return nil, damaged(name, err)
	}
	slot, err := seal.ParseSlot(object)
	if err != nil {
		return nil, damaged(name, err)
	}
	switch {
	case slot.Header.Repository != r.id:
		return nil, damaged(name, slot.Header.Check(r.id))
	case slot.Signer != r.config.Admin, slot.Kind != s.Kind, slot.Access != s.Access:
		return nil, damaged(name, errors.New("the key slot is not what config says"))
	}
	return slot, nil
}

// checkDigest compares an object with its name.
func checkDigest[K any](id seal.Digest[K], object []byte) error {
	if got := seal.Sum[K](object); got != id {
		return fmt.Errorf("object is %w: its contents hash to %s", seal.ErrDamaged, got.Short())
	}
	return nil
}

// unlock finds the first slot that one of the secrets opens. A damaged slot
// does not keep a good one from opening, but is the error if none opens.
func (r *Repository) unlock(ctx context.Context) (config.Slot, *seal.Bundle, error) {
	if len(r.opts.Secrets) == 0 {
		return config.Slot{}, nil, errors.New("no passphrase or identity was given")
	}
	var bad error
	for _, s := range r.config.Slots {
		slot, err := r.loadSlot(ctx, s)
		if err != nil {
			bad = errors.Join(bad, err)
			continue
		}
		for _, secret := range r.opts.Secrets {
			bundle, err := slot.Open(secret)
			switch {
			case err == nil:
				if err := r.checkBundle(s, bundle); err != nil {
					return s, nil, damaged(slotsPrefix+s.ID.String(), err)
				}
				return s, bundle, nil
			case !errors.Is(err, seal.ErrWrongSecret):
				bad = errors.Join(bad, damaged(slotsPrefix+s.ID.String(), err))
			}
		}
	}
	if bad != nil {
		return config.Slot{}, nil, bad
	}
	return config.Slot{}, nil, seal.ErrWrongSecret
}

// checkBundle compares what a slot gave with what config says of it.
func (r *Repository) checkBundle(s config.Slot, b *seal.Bundle) error {
	key, err := b.SlotKey()
	if err != nil {
		return err
	}
	if string(key.Public().Bytes()) != string(s.Public.Bytes()) || seal.SignerOf(b.SigningKey()) != s.Signer {
		return errors.New("the keys in the slot are not those in config")
	}
	if b.Access != seal.Full {
		return nil
	}
	private, err := b.RepositoryKey()
	if err != nil {
		return err
	}
	if string(private.Public().Bytes()) != string(r.config.Public.Bytes()) {
		return errors.New("the repository's key in the slot is not that of config")
	}
	return nil
}

// newSlot makes a slot for bundle and its line in config.
func newSlot(random io.Reader, c *config.Config, lock seal.Locker, bundle *seal.Bundle, domain uint32, admin ed25519.PrivateKey) (config.Slot, []byte, error) {
	object, err := seal.SealSlot(random, c.ID(), lock, bundle, admin)
	if err != nil {
		return config.Slot{}, nil, err
	}
	parsed, err := seal.ParseSlot(object)
	if err != nil {
		return config.Slot{}, nil, err
	}
	key, err := bundle.SlotKey()
	if err != nil {
		return config.Slot{}, nil, err
	}
	return config.Slot{
		ID: seal.SlotIDOf(object), Kind: parsed.Kind, Access: bundle.Access, Domain: domain,
		Public: key.Public(), Signer: seal.SignerOf(bundle.SigningKey()),
	}, object, nil
}

// SlotInfo describes a slot for people.
type SlotInfo struct {
	ID      seal.SlotID
	Kind    seal.SlotKind
	Access  seal.Access
	Domain  uint32
	Signer  seal.Signer
	Label   string
	Created time.Time
	Current bool // it opened this Repository
}

// Slots lists the slots, sorted by ID.
func (r *Repository) Slots() ([]SlotInfo, error) {
	notes, err := r.config.Notes(r.ring)
	if err != nil && !errors.Is(err, seal.ErrNoKey) {
		return nil, damaged(configName, err)
	}
	byID := make(map[seal.SlotID]config.Note)
	for _, n := range notes {
		byID[n.Slot] = n
	}
	var infos []SlotInfo
	for _, s := range r.config.Slots {
		n := byID[s.ID]
		infos = append(infos, SlotInfo{
			ID: s.ID, Kind: s.Kind, Access: s.Access, Domain: s.Domain, Signer: s.Signer,
			Label: n.Label, Created: n.Created, Current: s.ID == r.slot.ID,
		})
	}
	return infos, nil
}

// NewSlot says what slot to add.
type NewSlot struct {
	Lock   seal.Locker
	Access seal.Access
	Label  string
}

// AddSlot makes a new slot. A write-only slot gets a writer's key of its own.
// It needs full access.
func (r *Repository) AddSlot(ctx context.Context, n NewSlot) (seal.SlotID, error) {
	if r.private == nil {
		return seal.SlotID{}, ErrWriteOnly
	}
	bundle := &seal.Bundle{Access: n.Access}
	if n.Access == seal.Full {
		bundle.Signing, bundle.Repository = r.bundle.Signing, r.bundle.Repository
	} else if _, err := io.ReadFull(r.opts.Random, bundle.Signing[:]); err != nil {
		return seal.SlotID{}, fmt.Errorf("read random bytes: %w", err)
	}
	if _, err := io.ReadFull(r.opts.Random, bundle.Slot[:]); err != nil {
		return seal.SlotID{}, fmt.Errorf("read random bytes: %w", err)
	}
	slot, object, err := newSlot(r.opts.Random, r.config, n.Lock, bundle, r.slot.Domain, r.signing)
	if err != nil {
		return seal.SlotID{}, err
	}
	if err := backend.PutBytes(ctx, r.storage, slotsPrefix+slot.ID.String(), object); err != nil {
		return seal.SlotID{}, fmt.Errorf("store key slot: %w", err)
	}
	err = r.change(ctx, func(c *config.Config, ring *seal.Keyring, notes []config.Note) ([]config.Note, error) {
		c.Slots = append(c.Slots, slot)
		if n.Access == seal.WriteOnly {
			p, _ := c.Current(slot.Domain)
			c.Writers = append(c.Writers, config.Writer{Signer: slot.Signer, Domain: slot.Domain, First: p.Epoch, Last: config.Forever})
		}
		return append(notes, config.Note{Slot: slot.ID, Created: r.opts.Now(), Label: n.Label}), c.Grant(ring, slot)
	})
	if err == nil {
		r.cache.Put(slotClass, slot.ID, object)
	}
	return slot.ID, err
}

// RemoveSlot takes a slot away. If it was write-only, its writer is revoked
// and a new epoch begins: the keys that it knew no longer protect what is written
// from then on (and nothing written then is deduplicated against what was
// before). A full slot knew everything; removing it keeps its secret from
// opening this repository, no more. The last full slot can't be removed.
func (r *Repository) RemoveSlot(ctx context.Context, id seal.SlotID) error {
	if r.private == nil {
		return ErrWriteOnly
	}
	err := r.change(ctx, func(c *config.Config, ring *seal.Keyring, notes []config.Note) ([]config.Note, error) {
		slot, ok := c.Slot(id)
		if !ok {
			return nil, fmt.Errorf("there is no slot %s", id.Short())
		}
		if err := c.Revoke(id); err != nil {
			return nil, err
		}
		if !hasFull(c) {
			return nil, errors.New("this is the last key with full access: without it nothing could be read again; add another first")
		}
		if slot.Access == seal.WriteOnly {
			if _, err := c.NewEpoch(r.opts.Random, ring, slot.Domain); err != nil {
				return nil, err
			}
			for _, s := range c.Slots {
				if s.Access == seal.Full || s.Domain == slot.Domain {
					if err := c.Grant(ring, s); err != nil {
						return nil, err
					}
				}
			}
		}
		kept := notes[:0]
		for _, n := range notes {
			if n.Slot != id {
				kept = append(kept, n)
			}
		}
		return kept, nil
	})
	if err != nil {
		return err
	}
	// The list no longer has it, so it opens nothing: the object is only litter now.
	if err := r.storage.Delete(ctx, slotsPrefix+id.String()); err != nil && !errors.Is(err, backend.ErrNotExist) {
		r.opts.Observer.warn(fmt.Errorf("the key is removed, but its slot is left in the storage, where it opens nothing: %w", err))
	}
	return nil
}

func hasFull(c *config.Config) bool {
	for _, s := range c.Slots {
		if s.Access == seal.Full {
			return true
		}
	}
	return false
}

// change replaces the config by compare-and-swap. edit gets a fresh copy of the stored
// config, a keyring with all epochs, and the notes to return with changes.
func (r *Repository) change(ctx context.Context, edit func(*config.Config, *seal.Keyring, []config.Note) ([]config.Note, error)) error {
	c, old, err := r.readConfig(ctx)
	if err != nil {
		return err
	}
	key, err := r.bundle.SlotKey()
	if err != nil {
		return err
	}
	ring, err := c.Keyring(r.slot.ID, key)
	if err != nil {
		return damaged(configName, err)
	}
	notes, err := c.Notes(ring)
	if err != nil {
		return damaged(configName, err)
	}
	if notes, err = edit(c, ring, notes); err != nil {
		return err
	}
	c.Generation++
	if err := c.SetNotes(r.opts.Random, ring, notes); err != nil {
		return err
	}
	object := c.Seal(r.signing)
	if err := swap(ctx, r.storage, configName, old, object); err != nil {
		if errors.Is(err, backend.ErrConflict) {
			return fmt.Errorf("%w: somebody else changed the keys at the same time", ErrFenced)
		}
		return fmt.Errorf("store config: %w", err)
	}
	r.adopt(c, ring)
	if err := r.cache.Keep(configFile, object); err != nil {
		r.opts.Observer.warn(err)
	}
	// The change is in force. Without a memory of it, it is only less protected.
	if err := r.cache.Pin(r.storage.String(), r.id, c.Generation); err != nil {
		r.opts.Observer.warn(err)
	}
	return nil
}

// readConfig reads the config that is stored now, which is that which was opened or
// a later one.
func (r *Repository) readConfig(ctx context.Context) (*config.Config, []byte, error) {
	object, err := readWhole(ctx, r.storage, configName, maxConfig)
	if err != nil {
		return nil, nil, fmt.Errorf("read config: %w", err)
	}
	c, err := config.Parse(object)
	if err != nil {
		return nil, nil, damaged(configName, err)
	}
	if c.ID() != r.id || c.Generation < r.config.Generation {
		return nil, nil, damaged(configName, errors.New("it is not the config that was opened"))
	}
	return c, object, nil
}

// isOurs reports, as damage of the named object, that an object of a place whose
// secret this key was not given is by nobody who may write there, or of a place that
// does not exist. Those of a place that began after this Repository was opened are
// ours: so the stored config decides.
func (r *Repository) isOurs(ctx context.Context, name string, kind seal.Kind, object []byte) error {
	h, err := seal.ParseHeader(object, kind)
	if err != nil {
		return damaged(name, err)
	}
	_, by, err := seal.VerifySignature(object)
	if err != nil {
		return damaged(name, err)
	}
	c, err := r.configWith(ctx, name, h.Place)
	if err != nil {
		return err
	}
	if !c.MayWrite(by, h.Place) {
		return damaged(name, fmt.Errorf("signed by %s, who may not write in %s", by.Short(), h.Place))
	}
	return nil
}

// configWith returns a config that has a place: that which was opened, or the stored
// one. If neither has it, that is damage of the named object, which claims to be of it.
func (r *Repository) configWith(ctx context.Context, name string, place seal.Place) (*config.Config, error) {
	if r.config.HasEpoch(place) {
		return r.config, nil
	}
	c, _, err := r.readConfig(ctx)
	if err != nil {
		return nil, err
	}
	if !c.HasEpoch(place) {
		return nil, damaged(name, fmt.Errorf("of %s, which does not exist", place))
	}
	return c, nil
}

// unopened returns the error of an object that did not open. To have no key for it is
// damage only if its place does not exist: one that began after this Repository was
// opened is not its to judge.
func (r *Repository) unopened(ctx context.Context, name string, kind seal.Kind, object []byte, why error) error {
	if !errors.Is(why, seal.ErrNoKey) {
		return damaged(name, why)
	}
	h, err := seal.ParseHeader(object, kind)
	if err != nil {
		return damaged(name, err)
	}
	if _, err := r.configWith(ctx, name, h.Place); err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", name, why)
}
