package refreader

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
)

// Section 9: manifests.

// Flags of a snapshot's open part.
const (
	FlagTimeGiven  = 1 // the time was given by the user
	FlagIncomplete = 2
	FlagImported   = 4
	FlagRestored   = 8 // brought back by the admin
)

// A Snapshot is a manifest that is valid and not forgotten.
type Snapshot struct {
	ID            ID
	Epoch, Domain uint32
	Signer        ID // Ed25519 public key
	OpenPart
	ClosedPart
}

// OpenPart is what a write-only key can read of a manifest. Times are nanoseconds since 1970 UTC.
type OpenPart struct {
	Time   int64
	Flags  uint8
	Host   string
	Parent ID // zero if none
	Links  []ID
}

// ClosedPart is what only the repository's private key opens.
type ClosedPart struct {
	Root               ID
	RootLevel          uint8
	Set, User, Program string
	Start, End         int64
	Tags               []string
	Totals             Totals
	Sources            []Source
}

// Totals counts what a snapshot or one of its sources holds, and what was new in it.
type Totals struct {
	Files, Directories, Others, Bytes    uint64
	New, Changed, Unmodified, Removed    uint64
	Unreadable, NewBytes, NewBytesStored uint64
}

// A Source is one of the producers of a snapshot.
type Source struct {
	Kind       string
	Name       []byte
	Incomplete bool
	Totals     Totals
	Attributes map[string][]byte
}

// openManifest verifies and opens a manifest whose signature is verified.
func (r *Repo) openManifest(o signed) (Snapshot, error) {
	s := Snapshot{ID: o.id, Epoch: o.epoch, Domain: o.domain, Signer: o.signer}
	c := newCursor(o.body)
	section := c.take(uint64(c.u32()))
	if c.err != nil {
		return s, c.err
	}
	plain, err := r.openSection(o.realm, o.raw, section)
	if err == nil {
		s.OpenPart, err = parseOpenPart(plain)
	}
	if err == nil && s.Flags&FlagRestored != 0 && o.signer != r.config.admin {
		err = errors.New("brought back, which is done only by the admin")
	}
	if err != nil {
		return s, fmt.Errorf("open part: %w", err)
	}
	digest := hash(section)
	plain, err = openHPKE(r.private, c.b, []byte("cairn v1 manifest"), o.raw, digest[:])
	if err == nil {
		s.ClosedPart, err = parseClosedPart(plain)
	}
	if err != nil {
		return s, fmt.Errorf("closed part: %w", err)
	}
	return s, nil
}

func parseOpenPart(plain []byte) (p OpenPart, err error) {
	c := newCursor(plain)
	p.Time, p.Flags, p.Host, p.Parent = c.i64(), c.u8(), c.text(), c.id()
	c.require(p.Flags&^(FlagTimeGiven|FlagIncomplete|FlagImported|FlagRestored) == 0, "unknown flags %#x", p.Flags)
	p.Links = c.ids(c.uvarint())
	return p, c.endPadded()
}

func parseClosedPart(plain []byte) (p ClosedPart, err error) {
	c := newCursor(plain)
	p.Root, p.RootLevel = c.id(), c.u8()
	c.require(p.Root != (ID{}) && p.RootLevel <= maxLevel, "a tree of level %d with root %v", p.RootLevel, p.Root)
	p.Set, p.User, p.Program = c.text(), c.text(), c.text()
	p.Start, p.End = c.i64(), c.i64()
	for i := range c.count(c.uvarint(), 1) {
		p.Tags = append(p.Tags, c.text())
		c.require(i == 0 || p.Tags[i-1] < p.Tags[i], "tags are not in order")
	}
	p.Totals = c.totals()
	for range c.count(c.uvarint(), 1+1+1+11+1) {
		p.Sources = append(p.Sources, c.source())
	}
	return p, c.endPadded()
}

func (c *cursor) totals() Totals {
	return Totals{
		Files: c.uvarint(), Directories: c.uvarint(), Others: c.uvarint(), Bytes: c.uvarint(),
		New: c.uvarint(), Changed: c.uvarint(), Unmodified: c.uvarint(), Removed: c.uvarint(),
		Unreadable: c.uvarint(), NewBytes: c.uvarint(), NewBytesStored: c.uvarint(),
	}
}

func (c *cursor) source() Source {
	s := Source{Kind: c.text(), Name: bytes.Clone(c.bytes())}
	status := c.u8()
	c.require(status <= 1, "unknown status %d", status)
	s.Incomplete = status == 1
	s.Totals = c.totals()
	s.Attributes = make(map[string][]byte)
	var last string
	for i := range c.count(c.uvarint(), 2) {
		key := c.text()
		c.require(i == 0 || last < key, "attributes are not in order")
		last = key
		s.Attributes[key] = bytes.Clone(c.bytes())
	}
	return s
}

// Snapshots returns all snapshots in the order of (time, ID): those in snapshots/ and those that only the
// end of a lease commits, without those that a tombstone names.
func (r *Repo) Snapshots() ([]Snapshot, error) {
	// Leases before snapshots, for a lease is cleaned up once its snapshot is there; tombstones last,
	// for they win.
	found, err := r.committed()
	if err != nil {
		return nil, err
	}
	ids, err := r.list("snapshots")
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		name := "snapshots/" + id.String()
		o, err := r.load(name, kindManifest)
		if err != nil {
			return nil, err
		}
		s, err := r.openManifest(o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		found[id] = s
	}
	forgotten, err := r.forgotten()
	if err != nil {
		return nil, err
	}
	var out []Snapshot
	for id, s := range found {
		if id != s.ID {
			return nil, errors.New("internal error: snapshot under another ID")
		}
		if !forgotten[id] {
			out = append(out, s)
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Time != out[j].Time {
			return out[i].Time < out[j].Time
		}
		return less(out[i].ID[:], out[j].ID[:])
	})
	return out, nil
}
