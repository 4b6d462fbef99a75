package config

import (
	"errors"
	"fmt"
	"io"

	"github.com/cairn-backup/cairn/seal"
)

// NewEpoch appends the next epoch of a domain, with a random secret that no
// slot has yet, and makes it known to ring. The caller gives it to slots with Grant.
func (c *Config) NewEpoch(random io.Reader, ring *seal.Keyring, domain uint32) (seal.Place, error) {
	p, _ := c.Current(domain)
	p = seal.Place{Epoch: p.Epoch + 1, Domain: domain}
	var secret [32]byte
	if _, err := io.ReadFull(random, secret[:]); err != nil {
		return p, fmt.Errorf("read random bytes: %w", err)
	}
	ring.Add(p, secret)
	c.Epochs = append(c.Epochs, Epoch{Place: p})
	c.Normalize()
	return p, nil
}

// Grant seals the secrets of the epochs that slot should know, and that ring
// knows, to the slot: all of them if it has full access, else the newest of
// its domain.
func (c *Config) Grant(ring *seal.Keyring, slot Slot) error {
	newest, _ := c.Current(slot.Domain)
	for i := range c.Epochs {
		e := &c.Epochs[i]
		if slot.Access != seal.Full && e.Place != newest || e.has(slot.ID) {
			continue
		}
		secret, ok := ring.Secret(e.Place)
		if !ok {
			return fmt.Errorf("secret of %s: %w", e.Place, seal.ErrNoKey)
		}
		sealed, err := slot.Public.Seal(seal.EpochInfo(c.ID(), e.Place), secret[:])
		if err != nil {
			return fmt.Errorf("seal epoch secret: %w", err)
		}
		e.Boxes = append(e.Boxes, Box{Slot: slot.ID, Sealed: sealed})
	}
	c.Normalize()
	return nil
}

func (e *Epoch) has(id seal.SlotID) bool {
	for _, b := range e.Boxes {
		if b.Slot == id {
			return true
		}
	}
	return false
}

// Revoke takes a slot off the list, together with its boxes; its writer's
// signature counts up to the epochs that exist now.
func (c *Config) Revoke(id seal.SlotID) error {
	slot, ok := c.Slot(id)
	if !ok {
		return fmt.Errorf("there is no slot %s", id.Short())
	}
	kept := c.Slots[:0:0]
	others := false // another slot of the same writer
	for _, s := range c.Slots {
		if s.ID != id {
			kept = append(kept, s)
			others = others || s.Signer == slot.Signer
		}
	}
	c.Slots = kept
	for i := range c.Epochs {
		e := &c.Epochs[i]
		boxes := e.Boxes[:0:0]
		for _, b := range e.Boxes {
			if b.Slot != id {
				boxes = append(boxes, b)
			}
		}
		e.Boxes = boxes
	}
	if last, ok := c.Current(slot.Domain); ok && !others {
		for i := range c.Writers {
			if c.Writers[i].Signer == slot.Signer {
				c.Writers[i].Last = last.Epoch
			}
		}
	}
	return nil
}

// Keyring opens the epoch secrets that are sealed to a slot.
func (c *Config) Keyring(id seal.SlotID, key *seal.PrivateKey) (*seal.Keyring, error) {
	ring := seal.NewKeyring(c.ID())
	for _, e := range c.Epochs {
		for _, b := range e.Boxes {
			if b.Slot != id {
				continue
			}
			p, err := key.Open(seal.EpochInfo(c.ID(), e.Place), b.Sealed)
			if err != nil {
				return nil, fmt.Errorf("secret of %s: %w", e.Place, err)
			}
			if len(p) != 32 {
				return nil, fmt.Errorf("secret of %s is %w: %d bytes", e.Place, seal.ErrDamaged, len(p))
			}
			ring.Add(e.Place, [32]byte(p))
		}
	}
	if ring.Len() == 0 {
		return nil, errors.New("the slot was given no epoch")
	}
	return ring, nil
}
