package config

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cairn-backup/cairn/internal/wire"
	"github.com/cairn-backup/cairn/seal"
)

// Note is what people want to know of a slot; it is sealed, as it names hosts.
type Note struct {
	Slot    seal.SlotID
	Created time.Time
	Label   string
}

// privateHeader is what the section of notes is bound to.
func (c *Config) privateHeader() ([]byte, seal.Place) {
	p, _ := c.Current(0)
	return seal.Header{Kind: seal.Config, Repository: c.ID(), Place: p}.Append(nil), p
}

// Notes opens the private part. It returns seal.ErrNoKey if the keyring lacks the
// newest epoch of domain 0.
func (c *Config) Notes(ring *seal.Keyring) ([]Note, error) {
	h, place := c.privateHeader()
	k, ok := ring.Keys(place)
	if !ok {
		return nil, fmt.Errorf("notes of config: %w", seal.ErrNoKey)
	}
	p, err := seal.OpenSection(c.Private, k, h)
	if err != nil {
		return nil, fmt.Errorf("notes of config: %w", err)
	}
	return parseNotes(p)
}

func parseNotes(p []byte) ([]Note, error) {
	d := wire.NewDecoder(p)
	var notes []Note
	for range d.Count(32 + 8 + 1) {
		notes = append(notes, Note{Slot: d.Array32(), Created: time.Unix(0, d.I64()).UTC(), Label: d.Text()})
	}
	if !ascending(notes, func(a, b Note) int { return a.Slot.Compare(b.Slot) }) {
		d.Fail("notes are not sorted")
	}
	if err := d.FinishPadded(len(p), seal.Padme); err != nil {
		return nil, fmt.Errorf("notes of config are %w: %w", seal.ErrDamaged, err)
	}
	return notes, nil
}

func appendNotes(b []byte, notes []Note) []byte {
	b = binary.AppendUvarint(b, uint64(len(notes)))
	for _, n := range notes {
		b = append(b, n.Slot[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(n.Created.UnixNano()))
		b = wire.AppendBytes(b, n.Label)
	}
	return b
}

// SetNotes seals notes into the private part. Call it after the last change
// of Epochs: it seals to the newest.
func (c *Config) SetNotes(random io.Reader, ring *seal.Keyring, notes []Note) error {
	slices.SortFunc(notes, func(a, b Note) int { return a.Slot.Compare(b.Slot) })
	c.Normalize()
	h, place := c.privateHeader()
	k, ok := ring.Keys(place)
	if !ok {
		return fmt.Errorf("notes of config: %w", seal.ErrNoKey)
	}
	var err error
	c.Private, err = seal.SealSection(nil, random, k, h, appendNotes(nil, notes))
	return err
}
