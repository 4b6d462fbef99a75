// Package protocol has the formats of the objects by which writers and prune
// stay out of each other's way: leases, tombstones and the condemned list.
// What they mean, and in which order they are read and written, is in
// docs/design.md; the layouts are in docs/format.md, section 11.
package protocol

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cairn-backup/cairn/internal/wire"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// LeaseID names a lease: random bytes.
type LeaseID [32]byte

// String returns the ID as 64 hexadecimal digits.
func (l LeaseID) String() string { return fmt.Sprintf("%x", l[:]) }

// ParseLeaseID reads what LeaseID.String wrote.
func ParseLeaseID(s string) (LeaseID, error) {
	d, err := seal.ParseDigest[LeaseID](s)
	return LeaseID(d), err
}

func appendTime(b []byte, t time.Time) []byte {
	return binary.LittleEndian.AppendUint64(b, uint64(t.UnixNano()))
}

func decodeTime(d *wire.Decoder) time.Time { return time.Unix(0, d.I64()) }

// Sealer is what sealing an object takes.
type Sealer struct {
	Random     io.Reader
	Repository seal.RepositoryID
	Place      seal.Place
	Keys       *seal.Keys // of Place
	Key        ed25519.PrivateKey
}

// message is what an object says. parse makes its receiver a message anew.
type message interface {
	encode() []byte
	parse(*wire.Decoder)
}

// seal returns the object of a message. It refuses one that, read into again,
// nobody would accept.
func (s Sealer) seal(kind seal.Kind, m, again message) ([]byte, error) {
	plaintext := m.encode()
	d := wire.NewDecoder(plaintext)
	again.parse(d)
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("seal %s: %w", kind, err)
	}
	h := seal.Header{Kind: kind, Repository: s.Repository, Place: s.Place}
	return seal.SealObject(s.Random, h, s.Keys, s.Key, plaintext)
}

// Origin says who sealed an object, and where. Whether they may is for the
// caller to decide.
type Origin struct {
	Signer seal.Signer
	Place  seal.Place
}

// open opens an object and reads its message into m.
func open(object []byte, kind seal.Kind, ring *seal.Keyring, m message) (Origin, error) {
	o, err := seal.OpenObject(object, kind, ring)
	if err != nil {
		return Origin{}, err
	}
	d := wire.NewDecoder(o.Plaintext)
	m.parse(d)
	if err := d.FinishPadded(len(o.Plaintext), seal.Padme); err != nil {
		return Origin{}, fmt.Errorf("%s is %w: %w", kind, seal.ErrDamaged, err)
	}
	return Origin{o.Signer, o.Header.Place}, nil
}

// sign returns an object whose body is not sealed: every key must be able to
// read what the admin says of deletion, of whatever epoch and domain it is, and
// the storage sees it happen anyway.
func sign(kind seal.Kind, id seal.RepositoryID, body []byte, admin ed25519.PrivateKey) []byte {
	b := seal.Header{Kind: kind, Repository: id}.Append(nil)
	return seal.AppendSignature(append(b, body...), admin)
}

// verify opens what sign made.
func verify(object []byte, kind seal.Kind, id seal.RepositoryID, m message) (seal.Signer, error) {
	h, err := seal.ParseHeader(object, kind)
	if err != nil {
		return seal.Signer{}, err
	}
	if err := h.Check(id); err != nil {
		return seal.Signer{}, err
	}
	body, by, err := seal.VerifySignature(object)
	if err != nil {
		return seal.Signer{}, fmt.Errorf("%s: %w", kind, err)
	}
	d := wire.NewDecoder(body[seal.HeaderSize:])
	m.parse(d)
	if h.Place != (seal.Place{}) {
		d.Fail("of %s, but valid in all", h.Place)
	}
	if err := d.Finish(); err != nil {
		return seal.Signer{}, fmt.Errorf("%s is %w: %w", kind, seal.ErrDamaged, err)
	}
	return by, nil
}

// Begin announces a writer.
type Begin struct {
	Lease   LeaseID
	Time    time.Time
	Host    string
	Process uint64
}

func (b *Begin) encode() []byte {
	p := appendTime(append([]byte(nil), b.Lease[:]...), b.Time)
	// The name of a host need not be UTF-8, but text is: better a strange name
	// than a lease that nobody can read.
	p = wire.AppendBytes(p, strings.ToValidUTF8(b.Host, "\uFFFD"))
	return binary.AppendUvarint(p, b.Process)
}

func (b *Begin) parse(d *wire.Decoder) {
	*b = Begin{Lease: d.Array32(), Time: decodeTime(d), Host: d.Text(), Process: d.Uvarint()}
	if !utf8.ValidString(b.Host) {
		d.Fail("host %q is not UTF-8", b.Host)
	}
}

// Seal returns the object. A host's name is made UTF-8.
func (b *Begin) Seal(s Sealer) ([]byte, error) { return s.seal(seal.LeaseBegin, b, new(Begin)) }

// OpenBegin verifies and reads a begin.
func OpenBegin(object []byte, ring *seal.Keyring) (*Begin, Origin, error) {
	b := new(Begin)
	o, err := open(object, seal.LeaseBegin, ring, b)
	return b, o, err
}

// Beat shows that a writer lives.
type Beat struct {
	Lease  LeaseID
	Number uint64 // from 1
	Time   time.Time
}

func (b *Beat) encode() []byte {
	return appendTime(binary.AppendUvarint(append([]byte(nil), b.Lease[:]...), b.Number), b.Time)
}

func (b *Beat) parse(d *wire.Decoder) {
	*b = Beat{Lease: d.Array32(), Number: d.Uvarint(), Time: decodeTime(d)}
	if b.Number == 0 {
		d.Fail("beat 0")
	}
}

// Seal returns the object, and an error if the number is 0.
func (b *Beat) Seal(s Sealer) ([]byte, error) { return s.seal(seal.LeaseBeat, b, new(Beat)) }

// OpenBeat verifies and reads a beat.
func OpenBeat(object []byte, ring *seal.Keyring) (*Beat, Origin, error) {
	b := new(Beat)
	o, err := open(object, seal.LeaseBeat, ring, b)
	return b, o, err
}

// Outcome is how a lease ended.
type Outcome uint8

// The outcomes.
const (
	Committed Outcome = 1 // with a snapshot
	Abandoned Outcome = 2 // by its writer, without one
	Fenced    Outcome = 3 // by somebody else
)

// End ends a lease, once and for all.
type End struct {
	Lease    LeaseID
	Time     time.Time
	Outcome  Outcome
	Manifest []byte // if Committed
}

func (e *End) encode() []byte {
	p := appendTime(append([]byte(nil), e.Lease[:]...), e.Time)
	return append(append(p, byte(e.Outcome)), manifestBytes(e)...)
}

// manifestBytes are the manifest with its length, so that padding can follow.
func manifestBytes(e *End) []byte {
	if e.Outcome != Committed {
		return nil
	}
	return wire.AppendBytes(nil, e.Manifest)
}

func (e *End) parse(d *wire.Decoder) {
	*e = End{Lease: d.Array32(), Time: decodeTime(d), Outcome: Outcome(d.U8())}
	switch e.Outcome {
	case Committed:
		if e.Manifest = d.Bytes(); len(e.Manifest) == 0 {
			d.Fail("a commit without a manifest")
		}
	case Abandoned, Fenced:
	default:
		d.Fail("unknown outcome %d", e.Outcome)
	}
}

// Seal returns the object, and an error if the outcome is unknown, or committed
// without a manifest.
func (e *End) Seal(s Sealer) ([]byte, error) { return s.seal(seal.LeaseEnd, e, new(End)) }

// OpenEnd verifies and reads an end. It does not look into the manifest.
func OpenEnd(object []byte, ring *seal.Keyring) (*End, Origin, error) {
	e := new(End)
	o, err := open(object, seal.LeaseEnd, ring, e)
	return e, o, err
}

// TombstoneID names a tombstone object.
type TombstoneID = seal.Digest[tombstones]

type tombstones struct{}

// ParseTombstoneID reads what TombstoneID.String wrote.
func ParseTombstoneID(s string) (TombstoneID, error) { return seal.ParseDigest[tombstones](s) }

// Tombstone says which snapshots one run of forget has forgotten, for ever.
type Tombstone struct {
	Time      time.Time
	Forgotten []Forgotten // sorted by ID
}

// Forgotten is a snapshot that was forgotten, with its links, which keep the
// chain of manifests whole.
type Forgotten struct {
	ID    snapshot.ID
	Links []snapshot.ID // sorted
}

func (t *Tombstone) encode() []byte {
	p := binary.AppendUvarint(appendTime(nil, t.Time), uint64(len(t.Forgotten)))
	for _, f := range t.Forgotten {
		p = append(p, f.ID[:]...)
		p = binary.AppendUvarint(p, uint64(len(f.Links)))
		for _, l := range f.Links {
			p = append(p, l[:]...)
		}
	}
	return p
}

func (t *Tombstone) parse(d *wire.Decoder) {
	*t = Tombstone{Time: decodeTime(d)}
	for range d.Count(33) {
		f := Forgotten{ID: d.Array32()}
		for range d.Count(32) {
			f.Links = append(f.Links, d.Array32())
		}
		if !ascending(f.Links, snapshot.ID.Compare) {
			d.Fail("links are not sorted")
		}
		t.Forgotten = append(t.Forgotten, f)
	}
	if !ascending(t.Forgotten, compareForgotten) {
		d.Fail("snapshots are not sorted")
	}
}

func compareForgotten(a, b Forgotten) int { return a.ID.Compare(b.ID) }

// Sign sorts the lists, drops what stands in one twice, and returns the object.
func (t *Tombstone) Sign(id seal.RepositoryID, admin ed25519.PrivateKey) []byte {
	t.Forgotten = ascend(t.Forgotten, compareForgotten)
	for i := range t.Forgotten {
		f := &t.Forgotten[i]
		f.Links = ascend(f.Links, snapshot.ID.Compare)
	}
	return sign(seal.Tombstone, id, t.encode(), admin)
}

// OpenTombstone verifies and reads a tombstone.
func OpenTombstone(object []byte, id seal.RepositoryID) (*Tombstone, seal.Signer, error) {
	t := new(Tombstone)
	by, err := verify(object, seal.Tombstone, id, t)
	return t, by, err
}

// Phase is how far a prune has come with the packs that it condemned.
type Phase uint8

// The phases.
const (
	Empty     Phase = 0 // nothing is condemned
	Announced Phase = 1 // no writer relies on the packs from now on
	Waiting   Phase = 2 // for the writers that began before, which the list names
	Final     Phase = 3 // the packs go
)

// CondemnedPack is a pack that is about to be deleted.
type CondemnedPack struct {
	Kind seal.Kind
	ID   pack.ID
}

// Condemned is the one list of what prune is about to delete.
type Condemned struct {
	Generation uint64
	Phase      Phase
	Packs      []CondemnedPack // sorted by kind, then ID
	// Leases are those to wait for, sorted. A list that was announced anew, as it
	// grew, has the old ones.
	Leases []LeaseID
}

func (c *Condemned) encode() []byte {
	p := append(binary.LittleEndian.AppendUint64(nil, c.Generation), byte(c.Phase))
	p = binary.AppendUvarint(p, uint64(len(c.Packs)))
	for _, x := range c.Packs {
		p = append(append(p, byte(x.Kind)), x.ID[:]...)
	}
	p = binary.AppendUvarint(p, uint64(len(c.Leases)))
	for _, l := range c.Leases {
		p = append(p, l[:]...)
	}
	return p
}

func (c *Condemned) parse(d *wire.Decoder) {
	*c = Condemned{Generation: d.U64(), Phase: Phase(d.U8())}
	for range d.Count(33) {
		x := CondemnedPack{Kind: seal.Kind(d.U8()), ID: d.Array32()}
		if x.Kind != seal.DataPack && x.Kind != seal.MetaPack {
			d.Fail("%s is no pack", x.Kind)
		}
		c.Packs = append(c.Packs, x)
	}
	for range d.Count(32) {
		c.Leases = append(c.Leases, d.Array32())
	}
	switch {
	case c.Generation == 0:
		d.Fail("generation 0")
	case c.Phase > Final:
		d.Fail("unknown phase %d", c.Phase)
	case c.Phase == Empty && len(c.Packs)+len(c.Leases) > 0:
		d.Fail("an empty list with items")
	case !ascending(c.Packs, comparePacks) || !ascending(c.Leases, compareLeases):
		d.Fail("a list is not sorted")
	}
}

func comparePacks(a, b CondemnedPack) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), a.ID.Compare(b.ID))
}

func compareLeases(a, b LeaseID) int { return bytes.Compare(a[:], b[:]) }

// Sign sorts the lists, drops what stands in one twice, and returns the object.
// The generation must be 1 or more, and an empty phase must have empty lists.
func (c *Condemned) Sign(id seal.RepositoryID, admin ed25519.PrivateKey) []byte {
	c.Packs = ascend(c.Packs, comparePacks)
	c.Leases = ascend(c.Leases, compareLeases)
	return sign(seal.Condemned, id, c.encode(), admin)
}

// OpenCondemned verifies and reads the list.
func OpenCondemned(object []byte, id seal.RepositoryID) (*Condemned, seal.Signer, error) {
	c := new(Condemned)
	by, err := verify(object, seal.Condemned, id, c)
	return c, by, err
}

// ascend sorts s and drops items that are equal to the one before.
func ascend[T any](s []T, compare func(a, b T) int) []T {
	slices.SortStableFunc(s, compare)
	return slices.CompactFunc(s, func(a, b T) bool { return compare(a, b) == 0 })
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
