package refreader

import (
	"bytes"
	"crypto/hpke"
	"errors"
	"fmt"
)

// Section 5: config, the object that says who and what belongs to the repository.

type config struct {
	signed
	generation uint64
	admin      ID // Ed25519 public key
	public     []byte
	slots      []slotEntry
	writers    []writer
	epochs     []epoch
	private    []byte // a section
}

type slotEntry struct {
	id           ID
	kind, access uint8
	domain       uint32
	public       []byte // the slot's own HPKE key
	signer       ID
}

type writer struct {
	key         ID
	domain      uint32
	first, last uint32 // epochs
}

type epoch struct {
	realm
	sealed map[ID][]byte // the epoch secret as an HPKE message, by slot ID
}

// parseConfig parses a config and verifies what it says about itself: that the admin signed it, and
// that the repository ID is the hash of its two public keys.
func parseConfig(b []byte) (cfg config, err error) {
	if cfg.signed, err = parseSigned(b, kindConfig); err != nil {
		return cfg, err
	}
	c := newCursor(cfg.body)
	cfg.generation = c.u64()
	c.require(cfg.generation >= 1, "generation 0")
	c.i64() // time of creation
	for range c.count(c.uvarint(), 1) {
		c.fail("feature %q is not known to this program", c.text())
	}
	cfg.admin = c.id()
	cfg.public = c.publicKey()
	chunker, minimum, average, maximum := c.u8(), c.u32(), c.u32(), c.u32()
	c.require(chunker >= 1 && chunker <= 3, "unknown chunker %d", chunker)
	c.require(64 <= minimum && minimum <= average/2 && uint64(average)*2 <= uint64(maximum) && maximum <= maxChunk, "chunk sizes out of order")
	c.require(chunker != 3 || average&(average-1) == 0, "an average of %d for rabin", average)
	compression := c.u8()
	c.require(compression >= 1 && compression <= 3, "unknown compression %d", compression)
	packSize := c.u32()
	c.require(64<<10 <= packSize && packSize <= 1<<30, "packs of %d bytes", packSize)
	cfg.parseSlots(c)
	cfg.parseWriters(c)
	cfg.parseEpochs(c)
	cfg.private = c.bytes()
	if err := c.end(); err != nil {
		return cfg, err
	}
	if cfg.signer != cfg.admin {
		return cfg, errors.New("not signed by the admin key")
	}
	if hash([]byte("cairn v1 repository\x00"), cfg.admin[:], cfg.public) != cfg.repo {
		return cfg, errors.New("repository ID does not belong to the public keys")
	}
	return cfg, nil
}

// publicKey reads an HPKE public key. Not all bytes are one.
func (c *cursor) publicKey() []byte {
	b := c.take(hpkePublicKey)
	if _, err := hpke.MLKEM768X25519().NewPublicKey(b); err != nil {
		c.fail("%v", err)
	}
	return b
}

func (cfg *config) parseSlots(c *cursor) {
	var last ID
	for i := range c.count(c.uvarint(), 32+2+4+hpkePublicKey+32) {
		s := slotEntry{id: c.id(), kind: c.u8(), access: c.u8(), domain: c.u32(), public: c.publicKey(), signer: c.id()}
		c.require(i == 0 || less(last[:], s.id[:]), "slots are not in order")
		c.require(s.kind >= slotPassphrase && s.kind <= slotRecovery, "unknown slot kind %d", s.kind)
		c.require(s.access == accessFull || s.access == accessWriteOnly, "unknown access %d", s.access)
		c.require((s.access == accessFull) == (s.signer == cfg.admin), "slot's access does not fit its signing key")
		last = s.id
		cfg.slots = append(cfg.slots, s)
	}
}

func (cfg *config) parseWriters(c *cursor) {
	var last ID
	for i := range c.count(c.uvarint(), 32+3*4) {
		w := writer{key: c.id(), domain: c.u32(), first: c.u32(), last: c.u32()}
		c.require(i == 0 || less(last[:], w.key[:]), "writers are not in order")
		c.require(1 <= w.first && w.first <= w.last, "writer is valid in no epoch")
		last = w.key
		cfg.writers = append(cfg.writers, w)
	}
}

func (cfg *config) parseEpochs(c *cursor) {
	var last realm
	for i := range c.count(c.uvarint(), 4+4+1) {
		e := epoch{sealed: make(map[ID][]byte)}
		e.epoch, e.domain = c.u32(), c.u32()
		c.require(e.epoch >= 1, "epochs count from 1")
		c.require(i == 0 || last.domain < e.domain || last.domain == e.domain && last.epoch < e.epoch, "epochs are not in order")
		last = e.realm
		var lastSlot ID
		for j := range c.count(c.uvarint(), 32+hpkeSecret) {
			slot := c.id()
			c.require(j == 0 || less(lastSlot[:], slot[:]), "slots of %v are not in order", e.realm)
			lastSlot = slot
			e.sealed[slot] = c.take(hpkeSecret)
		}
		cfg.epochs = append(cfg.epochs, e)
	}
	c.require(len(cfg.epochs) > 0 && cfg.epochs[0].domain == 0, "domain 0 has no epoch")
}

// authorize applies the table of section 3 to all kinds but E, whose signer a begin decides.
func (cfg *config) authorize(o signed) error {
	if o.signer == cfg.admin {
		return nil
	}
	switch o.kind {
	case kindSegment, kindManifest, kindBegin, kindBeat:
	default:
		return errors.New("not signed by the admin key")
	}
	for _, w := range cfg.writers {
		if w.key != o.signer {
			continue
		}
		if w.domain == o.domain && w.first <= o.epoch && o.epoch <= w.last {
			return nil
		}
		return fmt.Errorf("signer %v may not write in %v", o.signer, o.realm)
	}
	return fmt.Errorf("signer %v is not a writer of config", o.signer)
}

// unlock finds the slot that the passphrase opens, and with it the repository's key and the epoch secrets.
func (r *Repo) unlock(passphrase []byte) error {
	slots := make([]keySlot, len(r.config.slots))
	for i, entry := range r.config.slots {
		var err error
		if slots[i], err = r.loadSlot(entry); err != nil {
			return fmt.Errorf("slot %v: %w", entry.id, err)
		}
	}
	for i, entry := range r.config.slots {
		if entry.kind != slotPassphrase {
			continue
		}
		b, err := slots[i].open(passphrase)
		if errors.Is(err, errOtherSecret) {
			continue
		}
		if err == nil {
			err = r.adopt(entry, b)
		}
		if err != nil {
			return fmt.Errorf("slot %v: %w", entry.id, err)
		}
		return nil
	}
	return ErrPassphrase
}

// loadSlot reads a slot that config lists. Other slots in keys/ mean nothing.
func (r *Repo) loadSlot(entry slotEntry) (keySlot, error) {
	o, err := r.load("keys/"+entry.id.String(), kindSlot)
	if err != nil {
		return keySlot{}, err
	}
	slot, err := parseSlot(o)
	if err == nil && (slot.kind != entry.kind || slot.access != entry.access) {
		err = errors.New("slot is not what config says of it")
	}
	return slot, err
}

// adopt compares the bundle with config, which the admin key signed, and opens the epoch secrets.
func (r *Repo) adopt(entry slotEntry, b bundle) error {
	if b.signer != entry.signer || !bytes.Equal(b.slotKey.PublicKey().Bytes(), entry.public) {
		return errors.New("bundle's keys are not those in config")
	}
	if b.access != accessFull {
		return ErrWriteOnly
	}
	if !bytes.Equal(b.repository.PublicKey().Bytes(), r.config.public) {
		return errors.New("bundle's repository key is not that in config")
	}
	r.private = b.repository
	for _, e := range r.config.epochs {
		message, ok := e.sealed[entry.id]
		if !ok {
			continue
		}
		secret, err := openHPKE(b.slotKey, message, []byte("cairn v1 epoch secret"), r.config.repo[:], le32(e.epoch), le32(e.domain))
		if err != nil {
			return fmt.Errorf("secret of %v: %w", e.realm, err)
		}
		r.keys[e.realm] = deriveKeys(secret)
	}
	return r.parsePrivate()
}

// parsePrivate verifies config's private part: the labels of slots and writers.
func (r *Repo) parsePrivate() error {
	var last realm
	for _, e := range r.config.epochs {
		if e.domain == 0 {
			last = e.realm
		}
	}
	plain, err := r.openSection(last, r.config.withRealm(last), r.config.private)
	if err != nil {
		return fmt.Errorf("private part of config: %w", err)
	}
	c := newCursor(plain)
	var lastID ID
	for i := range c.count(c.uvarint(), 32+8+1) {
		id := c.id()
		c.require(i == 0 || less(lastID[:], id[:]), "labels are not in order")
		lastID = id
		c.i64()  // time of creation
		c.text() // label
	}
	if err := c.endPadded(); err != nil {
		return fmt.Errorf("private part of config: %w", err)
	}
	return nil
}
