// Package config is the format of a repository's config object: its
// parameters, its public keys, the slots that open it, the writers whose
// signatures count, and the epochs. It is the root of trust: the admin signs
// it, and the repository's ID is a hash of the public keys in it.
//
// The layout is in docs/format.md, section 5.
package config

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/wire"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// Config is a repository's config object.
type Config struct {
	// Generation grows by one with each change. A machine that has seen one
	// refuses an older one.
	Generation uint64
	Created    time.Time
	// Features that a program must know to use the repository. Version 1 of
	// the format has none.
	Features []string

	Admin  seal.Signer
	Public *seal.PublicKey

	Chunker     chunk.Params
	Compression pack.Compression
	PackSize    uint32 // bytes that a pack should reach

	Slots   []Slot   // sorted by ID
	Writers []Writer // sorted by signer
	Epochs  []Epoch  // sorted by domain, then epoch

	// Private is the sealed section of Notes.
	Private []byte
}

// Slot is an entry of the list of slots: what is not in this list opens
// nothing, whatever lies in keys/.
type Slot struct {
	ID     seal.SlotID
	Kind   seal.SlotKind
	Access seal.Access
	Domain uint32
	Public *seal.PublicKey // epoch secrets for this slot are sealed to it
	Signer seal.Signer     // the admin for full slots, else the writer
}

// Forever is the last epoch of a writer that was not revoked.
const Forever = 1<<32 - 1

// Writer is a key whose signature counts in its domain and epochs.
type Writer struct {
	Signer      seal.Signer
	Domain      uint32
	First, Last uint32
}

// Epoch has an epoch's secret, sealed to each slot that may know it.
type Epoch struct {
	seal.Place
	Boxes []Box // sorted by slot
}

// Box is an epoch's secret for one slot.
type Box struct {
	Slot   seal.SlotID
	Sealed []byte
}

// ID returns the repository's ID.
func (c *Config) ID() seal.RepositoryID {
	return seal.NewRepositoryID(c.Admin[:], c.Public)
}

// Current returns the newest epoch of a domain, or false if there is none.
func (c *Config) Current(domain uint32) (seal.Place, bool) {
	var p seal.Place
	for _, e := range c.Epochs {
		if e.Domain == domain {
			p = e.Place // they are sorted
		}
	}
	return p, p.Epoch != 0
}

// MayWrite reports whether signer may sign a manifest, a lease or a segment of
// a place.
func (c *Config) MayWrite(signer seal.Signer, p seal.Place) bool {
	if signer == c.Admin {
		return true
	}
	for _, w := range c.Writers {
		if w.Signer == signer {
			return w.Domain == p.Domain && w.First <= p.Epoch && p.Epoch <= w.Last
		}
	}
	return false
}

// HasEpoch reports whether a place exists.
func (c *Config) HasEpoch(p seal.Place) bool {
	for _, e := range c.Epochs {
		if e.Place == p {
			return true
		}
	}
	return false
}

// Slot returns the list's entry of a slot.
func (c *Config) Slot(id seal.SlotID) (Slot, bool) {
	for _, s := range c.Slots {
		if s.ID == id {
			return s, true
		}
	}
	return Slot{}, false
}

// Normalize sorts the lists as the format wants them.
func (c *Config) Normalize() {
	slices.Sort(c.Features)
	slices.SortFunc(c.Slots, func(a, b Slot) int { return a.ID.Compare(b.ID) })
	slices.SortFunc(c.Writers, func(a, b Writer) int { return bytes.Compare(a.Signer[:], b.Signer[:]) })
	slices.SortFunc(c.Epochs, func(a, b Epoch) int {
		return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Epoch, b.Epoch))
	})
	for i := range c.Epochs {
		slices.SortFunc(c.Epochs[i].Boxes, func(a, b Box) int { return a.Slot.Compare(b.Slot) })
	}
}

// Seal normalizes the config and returns the object that says it, signed by
// the admin.
func (c *Config) Seal(admin ed25519.PrivateKey) []byte {
	c.Normalize()
	b := seal.Header{Kind: seal.Config, Repository: c.ID()}.Append(nil)
	return seal.AppendSignature(c.append(b), admin)
}

func (c *Config) append(b []byte) []byte {
	u32 := binary.LittleEndian.AppendUint32
	b = binary.LittleEndian.AppendUint64(b, c.Generation)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.Created.UnixNano()))
	b = binary.AppendUvarint(b, uint64(len(c.Features)))
	for _, f := range c.Features {
		b = wire.AppendBytes(b, f)
	}
	b = append(b, c.Admin[:]...)
	b = append(b, c.Public.Bytes()...)
	b = append(b, byte(c.Chunker.Algorithm))
	b = u32(u32(u32(b, uint32(c.Chunker.Min)), uint32(c.Chunker.Avg)), uint32(c.Chunker.Max))
	b = append(b, byte(c.Compression))
	b = u32(b, c.PackSize)
	b = binary.AppendUvarint(b, uint64(len(c.Slots)))
	for _, s := range c.Slots {
		b = append(b, s.ID[:]...)
		b = append(b, byte(s.Kind), byte(s.Access))
		b = u32(b, s.Domain)
		b = append(b, s.Public.Bytes()...)
		b = append(b, s.Signer[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(c.Writers)))
	for _, w := range c.Writers {
		b = append(b, w.Signer[:]...)
		b = u32(u32(u32(b, w.Domain), w.First), w.Last)
	}
	b = binary.AppendUvarint(b, uint64(len(c.Epochs)))
	for _, e := range c.Epochs {
		b = u32(u32(b, e.Epoch), e.Domain)
		b = binary.AppendUvarint(b, uint64(len(e.Boxes)))
		for _, x := range e.Boxes {
			b = append(b, x.Slot[:]...)
			b = append(b, x.Sealed...)
		}
	}
	return wire.AppendBytes(b, c.Private)
}

// Parse verifies and reads a config object. It checks that the admin of the
// config signed it and that the header's repository ID is that of the config's
// keys; that this is the repository one wants is for the caller to check.
func Parse(object []byte) (*Config, error) {
	h, err := seal.ParseHeader(object, seal.Config)
	if err != nil {
		return nil, err
	}
	body, by, err := seal.VerifySignature(object)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	c, err := parseBody(body[seal.HeaderSize:])
	if errors.Is(err, seal.ErrNewer) {
		return nil, fmt.Errorf("config %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("config is %w: %w", seal.ErrDamaged, err)
	}
	switch {
	case by != c.Admin:
		return nil, fmt.Errorf("config is %w: signed by %s, not by the admin", seal.ErrDamaged, by.Short())
	case h.Repository != c.ID():
		return nil, fmt.Errorf("config is %w: its keys are not those of repository %s", seal.ErrDamaged, h.Repository.Short())
	case h.Place != seal.Place{}:
		return nil, fmt.Errorf("config is %w: it is of %s", seal.ErrDamaged, h.Place)
	}
	return c, nil
}

func parseBody(p []byte) (*Config, error) {
	d := wire.NewDecoder(p)
	c := &Config{Generation: d.U64(), Created: time.Unix(0, d.I64()).UTC()}
	for range d.Count(1) {
		c.Features = append(c.Features, d.Text())
	}
	// This comes first: a feature may give all that follows another form.
	if d.Err() == nil && len(c.Features) > 0 {
		return nil, fmt.Errorf("needs feature %q: it %w", c.Features[0], seal.ErrNewer)
	}
	c.Admin = d.Array32()
	c.Public = publicKey(d)
	c.Chunker.Algorithm = chunk.Algorithm(d.U8())
	c.Chunker.Min, c.Chunker.Avg, c.Chunker.Max = int(d.U32()), int(d.U32()), int(d.U32())
	c.Compression = pack.Compression(d.U8())
	c.PackSize = d.U32()
	for range d.Count(32 + 2 + 4 + seal.PublicKeySize + 32) {
		c.Slots = append(c.Slots, Slot{
			ID: d.Array32(), Kind: seal.SlotKind(d.U8()), Access: seal.Access(d.U8()), Domain: d.U32(),
			Public: publicKey(d), Signer: d.Array32(),
		})
	}
	for range d.Count(32 + 12) {
		c.Writers = append(c.Writers, Writer{Signer: d.Array32(), Domain: d.U32(), First: d.U32(), Last: d.U32()})
	}
	for range d.Count(9) {
		e := Epoch{Place: seal.Place{Epoch: d.U32(), Domain: d.U32()}}
		for range d.Count(32 + seal.SealedKeySize) {
			e.Boxes = append(e.Boxes, Box{Slot: d.Array32(), Sealed: d.Fixed(seal.SealedKeySize)})
		}
		c.Epochs = append(c.Epochs, e)
	}
	c.Private = d.Bytes()
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return c, c.validate()
}

func publicKey(d *wire.Decoder) *seal.PublicKey {
	p := d.Fixed(seal.PublicKeySize)
	if p == nil {
		return nil
	}
	k, err := seal.ParsePublicKey(p)
	if err != nil {
		d.Fail("%v", err)
	}
	return k
}

func (c *Config) validate() error {
	if err := c.Chunker.Validate(); err != nil {
		return err
	}
	switch {
	case c.Generation == 0:
		return fmt.Errorf("generation 0")
	case c.Chunker.Max > pack.MaxChunk:
		return fmt.Errorf("chunks of up to %d bytes", c.Chunker.Max)
	case !c.Compression.Valid():
		return fmt.Errorf("unknown %s", c.Compression)
	case c.PackSize < 1<<16 || c.PackSize > 1<<30:
		return fmt.Errorf("packs of %d bytes", c.PackSize)
	case !ascending(c.Slots, func(a, b Slot) int { return a.ID.Compare(b.ID) }),
		!ascending(c.Writers, func(a, b Writer) int { return bytes.Compare(a.Signer[:], b.Signer[:]) }),
		!ascending(c.Epochs, func(a, b Epoch) int {
			return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Epoch, b.Epoch))
		}):
		return fmt.Errorf("a list is not sorted")
	}
	if _, ok := c.Current(0); !ok {
		return fmt.Errorf("no epoch in domain 0")
	}
	for _, e := range c.Epochs {
		if e.Epoch == 0 || !ascending(e.Boxes, func(a, b Box) int { return a.Slot.Compare(b.Slot) }) {
			return fmt.Errorf("%s is malformed", e.Place)
		}
	}
	for _, w := range c.Writers {
		if w.First == 0 || w.First > w.Last {
			return fmt.Errorf("writer %s is valid in epochs %d to %d", w.Signer.Short(), w.First, w.Last)
		}
	}
	for _, s := range c.Slots {
		if s.Kind < seal.PassphraseSlot || s.Kind > seal.RecoverySlot || s.Access != seal.Full && s.Access != seal.WriteOnly {
			return fmt.Errorf("slot %s: unknown %s or %s", s.ID.Short(), s.Kind, s.Access)
		}
		if (s.Access == seal.Full) != (s.Signer == c.Admin) {
			return fmt.Errorf("slot %s: %s access with the key of another role", s.ID.Short(), s.Access)
		}
	}
	return nil
}

// ascending reports whether each item is greater than the one before.
func ascending[T any](s []T, compare func(a, b T) int) bool {
	for i := 1; i < len(s); i++ {
		if compare(s[i-1], s[i]) >= 0 {
			return false
		}
	}
	return true
}
