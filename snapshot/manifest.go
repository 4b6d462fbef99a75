package snapshot

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zeebo/blake3"

	"github.com/cairn-backup/cairn/internal/wire"
	"github.com/cairn-backup/cairn/seal"
)

// ID names a snapshot: the BLAKE3 of its manifest.
type ID = seal.Digest[snapshots]

type snapshots struct{}

// IDOf returns the ID of a manifest.
func IDOf(manifest []byte) ID { return seal.Sum[snapshots](manifest) }

// ParseID reads what ID.String wrote.
func ParseID(s string) (ID, error) { return seal.ParseDigest[snapshots](s) }

// Flags say what is particular about a snapshot.
type Flags uint8

// The flags.
const (
	TimeGiven  Flags = 1 // its time was given by the user
	Incomplete Flags = 2 // some source data could not be read
	Imported   Flags = 4 // it was made from another program's backup
	Restored   Flags = 8 // the admin brought it back after it had been forgotten
)

// Open is the part of a manifest that every key can read, also a write-only
// one: what is needed to continue the chain and to choose a parent.
type Open struct {
	Time   time.Time
	Flags  Flags
	Host   string
	Parent ID   // zero: none
	Links  []ID // the heads that the writer saw; sorted when read
}

// Status says how a source fared.
type Status uint8

// The states of a source.
const (
	Complete Status = 0
	Failed   Status = 1
)

// Totals count what a snapshot, or a source, came to.
type Totals struct {
	Files, Dirs, Others      uint64 // entries
	Bytes                    uint64 // of contents
	New, Changed, Unmodified uint64 // files, against the parent
	Removed                  uint64 // entries
	Unreadable               uint64 // items
	NewRaw, NewStored        uint64 // bytes of new chunks, plain and as stored
}

func (t *Totals) fields() []*uint64 {
	return []*uint64{
		&t.Files, &t.Dirs, &t.Others, &t.Bytes, &t.New, &t.Changed, &t.Unmodified, &t.Removed, &t.Unreadable, &t.NewRaw, &t.NewStored,
	}
}

// Source is what a snapshot says of one of its sources.
type Source struct {
	Kind   string // files, stdin, command...
	Name   []byte
	Status Status
	Totals Totals
	// Attributes are what the source recorded. A program ignores those that it
	// does not know. Keys are UTF-8.
	Attributes map[string][]byte
}

// Body is the part of a manifest that only a key with full access can read.
type Body struct {
	Root       Root
	Set        string
	User       string
	Program    string // name and version
	Start, End time.Time
	Tags       []string // sorted when read
	Totals     Totals
	Sources    []Source
}

// Manifest is a snapshot's manifest.
type Manifest struct {
	Header seal.Header
	Open   Open
	Body   Body
}

func appendTime(b []byte, t time.Time) []byte {
	return binary.LittleEndian.AppendUint64(b, uint64(t.UnixNano()))
}

func decodeTime(d *wire.Decoder) time.Time { return time.Unix(0, d.I64()) }

// appendText appends text. What is not UTF-8, such as the name of a host may
// be, becomes so: better a strange name than no snapshot.
func appendText(b []byte, s string) []byte {
	return wire.AppendBytes(b, strings.ToValidUTF8(s, "\uFFFD"))
}

func decodeText(d *wire.Decoder) string {
	s := d.Text()
	if !utf8.ValidString(s) {
		d.Fail("text %q is not UTF-8", s)
	}
	return s
}

// pad appends the zero bytes that hide the exact length.
func pad(b []byte) []byte { return append(b, make([]byte, seal.Padme(len(b))-len(b))...) }

// Encode returns the open part as it is sealed, with its padding. Links are sorted, and
// all text becomes UTF-8.
func (o *Open) Encode() []byte { return pad(o.encode()) }

func (o *Open) encode() []byte {
	b := appendTime(nil, o.Time)
	b = append(b, byte(o.Flags))
	b = appendText(b, o.Host)
	b = append(b, o.Parent[:]...)
	links := slices.Clone(o.Links)
	slices.SortFunc(links, ID.Compare)
	links = slices.Compact(links)
	b = binary.AppendUvarint(b, uint64(len(links)))
	for _, l := range links {
		b = append(b, l[:]...)
	}
	return b
}

// ParseOpen reads what Encode wrote.
func ParseOpen(p []byte) (*Open, error) {
	d := wire.NewDecoder(p)
	o := &Open{Time: decodeTime(d), Flags: Flags(d.U8()), Host: decodeText(d), Parent: d.Array32()}
	if o.Flags > TimeGiven|Incomplete|Imported|Restored {
		d.Fail("unknown flags %x", o.Flags)
	}
	for i := range d.Count(32) {
		o.Links = append(o.Links, d.Array32())
		if i > 0 && o.Links[i-1].Compare(o.Links[i]) >= 0 {
			d.Fail("links are not sorted")
		}
	}
	if err := d.FinishPadded(len(p), seal.Padme); err != nil {
		return nil, fmt.Errorf("open part of manifest is %w: %w", seal.ErrDamaged, err)
	}
	return o, nil
}

// Encode returns the body as it is sealed, with its padding. Tags are sorted,
// and all text becomes UTF-8.
func (b *Body) Encode() []byte {
	p := append([]byte(nil), b.Root.ID[:]...)
	p = append(p, b.Root.Level)
	p = appendText(p, b.Set)
	p = appendText(p, b.User)
	p = appendText(p, b.Program)
	p = appendTime(appendTime(p, b.Start), b.End)
	tags := make([]string, len(b.Tags))
	for i, t := range b.Tags {
		tags[i] = strings.ToValidUTF8(t, "\uFFFD")
	}
	slices.Sort(tags)
	tags = slices.Compact(tags)
	p = binary.AppendUvarint(p, uint64(len(tags)))
	for _, t := range tags {
		p = wire.AppendBytes(p, t)
	}
	p = appendTotals(p, b.Totals)
	p = binary.AppendUvarint(p, uint64(len(b.Sources)))
	for _, s := range b.Sources {
		p = appendSource(p, s)
	}
	return pad(p)
}

func appendTotals(b []byte, t Totals) []byte {
	for _, f := range t.fields() {
		b = binary.AppendUvarint(b, *f)
	}
	return b
}

func decodeTotals(d *wire.Decoder) (t Totals) {
	for _, f := range t.fields() {
		*f = d.Uvarint()
	}
	return t
}

func appendSource(b []byte, s Source) []byte {
	b = appendText(b, s.Kind)
	b = wire.AppendBytes(b, s.Name)
	b = append(b, byte(s.Status))
	b = appendTotals(b, s.Totals)
	keys := make([]string, 0, len(s.Attributes))
	for k := range s.Attributes {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b = binary.AppendUvarint(b, uint64(len(keys)))
	for _, k := range keys {
		b = wire.AppendBytes(b, k)
		b = wire.AppendBytes(b, s.Attributes[k])
	}
	return b
}

func decodeSource(d *wire.Decoder) Source {
	s := Source{Kind: decodeText(d), Name: append([]byte(nil), d.Bytes()...), Status: Status(d.U8()), Totals: decodeTotals(d)}
	if s.Status > Failed {
		d.Fail("unknown status %d", s.Status)
	}
	last := ""
	for i := range d.Count(2) {
		k := decodeText(d)
		if i > 0 && k <= last {
			d.Fail("attributes are not sorted")
		}
		if s.Attributes == nil {
			s.Attributes = make(map[string][]byte)
		}
		s.Attributes[k] = append([]byte(nil), d.Bytes()...)
		last = k
	}
	return s
}

// ParseBody reads what Encode wrote.
func ParseBody(p []byte) (*Body, error) {
	d := wire.NewDecoder(p)
	b := &Body{Root: Root{ID: d.Array32(), Level: d.U8()}, Set: decodeText(d), User: decodeText(d), Program: decodeText(d), Start: decodeTime(d), End: decodeTime(d)}
	if b.Root.Level > MaxLevel || b.Root.ID.IsZero() {
		d.Fail("a tree of level %d with root %s", b.Root.Level, b.Root.ID.Short())
	}
	for i := range d.Count(1) {
		b.Tags = append(b.Tags, decodeText(d))
		if i > 0 && b.Tags[i-1] >= b.Tags[i] {
			d.Fail("tags are not sorted")
		}
	}
	b.Totals = decodeTotals(d)
	for range d.Count(15) {
		b.Sources = append(b.Sources, decodeSource(d))
	}
	if err := d.FinishPadded(len(p), seal.Padme); err != nil {
		return nil, fmt.Errorf("closed part of manifest is %w: %w", seal.ErrDamaged, err)
	}
	return b, nil
}

// bodyInfo is the HPKE context that binds the closed part to the rest.
func bodyInfo(header, section []byte) []byte {
	sum := blake3.Sum256(section)
	info := append([]byte("cairn v1 manifest"), header...)
	return append(info, sum[:]...)
}

// Seal returns the manifest object, signed. keys are those of the header's
// place, public is the repository's key. It refuses what could not be read
// again.
func (m *Manifest) Seal(random io.Reader, keys *seal.Keys, public *seal.PublicKey, key ed25519.PrivateKey) ([]byte, error) {
	if m.Header.Kind != seal.Manifest {
		return nil, fmt.Errorf("%s for the header of a manifest", m.Header.Kind)
	}
	open, body := m.Open.encode(), m.Body.Encode()
	if _, err := ParseOpen(pad(slices.Clone(open))); err != nil {
		return nil, err
	}
	if _, err := ParseBody(body); err != nil {
		return nil, err
	}
	header := m.Header.Append(nil)
	section, err := seal.SealSection(nil, random, keys, header, open)
	if err != nil {
		return nil, err
	}
	body, err = public.Seal(bodyInfo(header, section), body)
	if err != nil {
		return nil, fmt.Errorf("seal body of manifest: %w", err)
	}
	b := binary.LittleEndian.AppendUint32(slices.Clone(header), uint32(len(section)))
	b = append(append(b, section...), body...)
	return seal.AppendSignature(b, key), nil
}

// Sealed is a manifest of which only the open part was opened.
type Sealed struct {
	Header seal.Header
	Signer seal.Signer
	Open   Open

	info, body []byte
}

// OpenManifest verifies a manifest's signature and opens its open part.
// Whether the signer may write snapshots is for the caller to decide.
func OpenManifest(object []byte, ring *seal.Keyring) (*Sealed, error) {
	h, err := seal.ParseHeader(object, seal.Manifest)
	if err != nil {
		return nil, err
	}
	if err := h.Check(ring.Repository); err != nil {
		return nil, err
	}
	rest, by, err := seal.VerifySignature(object)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	keys, ok := ring.Keys(h.Place)
	if !ok {
		return nil, fmt.Errorf("manifest of %s: %w", h.Place, seal.ErrNoKey)
	}
	header := rest[:seal.HeaderSize]
	d := wire.NewDecoder(rest[seal.HeaderSize:])
	section := d.Fixed(d.Count32(1))
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("manifest is %w: %w", seal.ErrDamaged, err)
	}
	p, err := seal.OpenSection(section, keys, header)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	open, err := ParseOpen(p)
	if err != nil {
		return nil, err
	}
	return &Sealed{Header: h, Signer: by, Open: *open, info: bodyInfo(header, section), body: d.Rest()}, nil
}

// OpenBody opens the closed part.
func (s *Sealed) OpenBody(private *seal.PrivateKey) (*Body, error) {
	p, err := private.Open(s.info, s.body)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return ParseBody(p)
}
