package index

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cairn-backup/cairn/internal/wire"
	"github.com/cairn-backup/cairn/seal"
)

// localVersion is that of the local file. A file of another version is thrown
// away and made anew from the segments.
const localVersion = 2

// state is the one value that says what the rest of the file is.
type state struct {
	repository seal.RepositoryID
	// incarnation is drawn when a file is made, and commit counts transactions:
	// together they tell whether this is still what somebody relied on.
	incarnation [16]byte
	commit      uint64

	nextRun, nextOrdinal, nextSegment uint32
	names, segments, sources          uint64 // values in these buckets
	dead                              uint64 // records of dead segments
	runs                              []run  // in the order of their numbers
}

// role says what a run is good for.
type role uint8

const (
	settled  role = iota // whole
	building             // being written by an absorb; not looked at
	input                // part of a merge, into another run; [from, end) is still here
	output               // result of a merge; [from, to) is here already
)

// run is a sorted sequence of blocks. Records outside of [from, to) are not part
// of it, even if a block still has them.
type run struct {
	number   uint32
	into     uint32 // of an input: the number of the output
	role     role
	from, to recordKey
	records  uint64
	lines    uint32 // of its filter
}

const runSize = 4 + 4 + 1 + 2*keySize + 8 + 4

func (s *state) encode() []byte {
	b := []byte{localVersion}
	b = append(b, s.repository[:]...)
	b = append(b, s.incarnation[:]...)
	b = binary.LittleEndian.AppendUint64(b, s.commit)
	for _, n := range []uint32{s.nextRun, s.nextOrdinal, s.nextSegment} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	for _, n := range []uint64{s.names, s.segments, s.sources, s.dead} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.runs)))
	for i := range s.runs {
		r := &s.runs[i]
		b = binary.LittleEndian.AppendUint32(b, r.number)
		b = binary.LittleEndian.AppendUint32(b, r.into)
		b = append(b, byte(r.role))
		b = append(b, r.from[:]...)
		b = append(b, r.to[:]...)
		b = binary.LittleEndian.AppendUint64(b, r.records)
		b = binary.LittleEndian.AppendUint32(b, r.lines)
	}
	return b
}

func parseState(p []byte, id seal.RepositoryID) (*state, error) {
	d := wire.NewDecoder(p)
	if v := d.U8(); v != localVersion {
		return nil, fmt.Errorf("%w: version %d", errDamaged, v)
	}
	s := &state{repository: d.Array32()}
	copy(s.incarnation[:], d.Fixed(len(s.incarnation)))
	s.commit = d.U64()
	s.nextRun, s.nextOrdinal, s.nextSegment = d.U32(), d.U32(), d.U32()
	s.names, s.segments, s.sources, s.dead = d.U64(), d.U64(), d.U64(), d.U64()
	for range d.Count32(runSize) {
		r := run{number: d.U32(), into: d.U32(), role: role(d.U8())}
		copy(r.from[:], d.Fixed(keySize))
		copy(r.to[:], d.Fixed(keySize))
		r.records, r.lines = d.U64(), d.U32()
		s.runs = append(s.runs, r)
	}
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if s.repository != id {
		return nil, fmt.Errorf("%w: index of repository %s", errDamaged, s.repository.Short())
	}
	return s, nil
}

// run returns the run of a number.
func (s *state) run(number uint32) *run {
	i := slices.IndexFunc(s.runs, func(r run) bool { return r.number == number })
	return &s.runs[i]
}

// drop forgets a run, whose blocks are gone.
func (s *state) drop(number uint32) {
	s.runs = slices.DeleteFunc(s.runs, func(r run) bool { return r.number == number })
}

// building returns the number of a run that was begun and not completed.
func (s *state) building() (number uint32, found bool) {
	for _, r := range s.runs {
		if r.role == building {
			return r.number, true
		}
	}
	return 0, false
}

// begin adds a run that gets so many records at most.
func (s *state) begin(as role, records uint64) *run {
	s.runs = append(s.runs, run{number: s.nextRun, role: as, lines: linesFor(records)})
	s.nextRun++
	return &s.runs[len(s.runs)-1]
}

// records counts those that look-ups see, dead ones included.
func (s *state) records() (n uint64) {
	for _, r := range s.runs {
		if r.role != building {
			n += r.records
		}
	}
	return n
}

// source is what an ordinal stands for: a pack, as a segment names it.
type source struct {
	pack    Pack
	segment uint32
}

const sourceSize = packSize + 4

func (s source) encode() []byte {
	b := append(make([]byte, 0, sourceSize+sumSize), s.pack.ID[:]...)
	b = append(b, byte(s.pack.Kind))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.pack.Size))
	return binary.LittleEndian.AppendUint32(b, s.segment)
}

func parseSource(p []byte) (source, error) {
	d := wire.NewDecoder(p)
	s := source{pack: Pack{ID: d.Array32(), Kind: seal.Kind(d.U8()), Size: d.I64()}, segment: d.U32()}
	return s, malformed(d)
}

// segmentInfo is what is known of a segment whose records are in the file.
type segmentInfo struct {
	id             SegmentID
	signer         seal.Signer
	place          seal.Place
	ordinal, packs uint32 // the first ordinal, and how many
	records        uint64 // that are still in runs
	alive          bool
}

func (s segmentInfo) encode() []byte {
	b := append(make([]byte, 0, 128), s.id[:]...)
	b = append(b, s.signer[:]...)
	for _, n := range []uint32{s.place.Epoch, s.place.Domain, s.ordinal, s.packs} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	b = binary.LittleEndian.AppendUint64(b, s.records)
	if s.alive {
		return append(b, 1)
	}
	return append(b, 0)
}

func parseSegmentInfo(p []byte) (segmentInfo, error) {
	d := wire.NewDecoder(p)
	s := segmentInfo{id: d.Array32(), signer: d.Array32()}
	s.place = seal.Place{Epoch: d.U32(), Domain: d.U32()}
	s.ordinal, s.packs, s.records, s.alive = d.U32(), d.U32(), d.U64(), flag(d)
	return s, malformed(d)
}

// name is what is known of a segment ID: its number, if its records are here and
// alive, and how many live segments of the admin supersede it. A segment with
// either counts as absorbed.
type name struct {
	absorbed    bool
	number      uint32
	superseders uint32
}

func (n name) encode() []byte {
	b := make([]byte, 1, 1+4+4+sumSize)
	if n.absorbed {
		b[0] = 1
	}
	b = binary.LittleEndian.AppendUint32(b, n.number)
	return binary.LittleEndian.AppendUint32(b, n.superseders)
}

func parseName(p []byte) (name, error) {
	d := wire.NewDecoder(p)
	n := name{absorbed: flag(d), number: d.U32(), superseders: d.U32()}
	return n, malformed(d)
}

func flag(d *wire.Decoder) bool {
	v := d.U8()
	if v > 1 {
		d.Fail("flag %d", v)
	}
	return v == 1
}

func malformed(d *wire.Decoder) error {
	if err := d.Finish(); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return nil
}
