package config_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/repo/config"
	"github.com/cairn-backup/cairn/seal"
)

func TestNotes(t *testing.T) {
	c, ring := newConfig(t)
	object := c.Seal(admin)
	if bytes.Contains(object, []byte("host a")) {
		t.Error("the label stands in the open")
	}
	c = must[*config.Config](t)(config.Parse(object))
	want := []config.Note{
		{Slot: seal.SlotID{10}, Created: time.Unix(-5, 1).UTC(), Label: "büro"},
		{Slot: seal.SlotID{20}, Created: time.Unix(1700000001, 0).UTC(), Label: "host a"},
	}
	for _, id := range []byte{10, 20} {
		got, err := c.Notes(must[*seal.Keyring](t)(c.Keyring(seal.SlotID{id}, hpke(t, id))))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("slot %d reads %v, %v", id, got, err)
		}
	}
	if err := c.SetNotes(random(1), ring, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Notes(ring); err != nil || got != nil {
		t.Errorf("no notes came back as %v, %v", got, err)
	}
}

func TestNotesErrors(t *testing.T) {
	c, ring := newConfig(t)
	elsewhere := must[*seal.Keyring](t)(c.Keyring(seal.SlotID{30}, hpke(t, 30)))
	if _, err := c.Notes(elsewhere); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("in another domain: %v", err)
	}
	if err := c.SetNotes(random(1), elsewhere, nil); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("set in another domain: %v", err)
	}
	private := c.Private
	for i := range private {
		c.Private = bytes.Clone(private)
		c.Private[i] ^= 1
		if got, err := c.Notes(ring); got != nil || !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("byte %d flipped: %v, %v", i, got, err)
		}
	}
	broken := errors.New("no entropy")
	if err := c.SetNotes(errReader{broken}, ring, nil); !errors.Is(err, broken) {
		t.Errorf("without randomness: %v", err)
	}
	// They are sealed to the newest epoch, as SetNotes says.
	c.Private = private
	must[seal.Place](t)(c.NewEpoch(random(50), ring, 0))
	if _, err := c.Notes(ring); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("notes of the epoch before: %v", err)
	}
}
