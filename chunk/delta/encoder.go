package delta

import "encoding/binary"

// Encoder finds what a target shares with bases. It keeps its table, so that a
// used one allocates nothing: of a quarter to half of the bytes of the largest
// bases that it was given. It must not be used concurrently.
type Encoder struct {
	space  space
	table  table
	target []byte

	out    []byte
	done   int // so many bytes of target are in out
	end    int // of the last copy, in the space
	effort int // what may still be spent on better copies, see search
}

// NewEncoder returns an Encoder.
func NewEncoder() *Encoder { return new(Encoder) }

// Encode appends to dst a delta from which Decode, given the same bases in the
// same order, makes target. Any target and bases will do, of up to 1 GiB in
// sum, but where they share little the delta is of no use: it can be a few
// bytes longer than target. The time is linear in the lengths, whatever the
// contents. Encode panics if there are more than MaxBases bases. dst must not
// overlap the others.
func (e *Encoder) Encode(dst, target []byte, bases ...[]byte) []byte {
	e.space, e.target = newSpace(bases), target
	e.out, e.done, e.end, e.effort = dst, 0, 0, startingEffort
	e.table.fill(&e.space)
	e.search()
	if e.done < len(target) {
		e.insert(len(target))
	}
	out := e.out
	e.space, e.target, e.out = space{}, nil, nil // keep nothing of the caller's
	return out
}

// insert puts out the literals from done to end.
func (e *Encoder) insert(end int) {
	e.out = binary.AppendUvarint(e.out, uint64(end-e.done))
	e.out = append(e.out, e.target[e.done:end]...)
	e.done = end
}

// emit puts out the literals before m, and m as a copy.
func (e *Encoder) emit(m match) {
	e.insert(m.start)
	e.out = binary.AppendUvarint(e.out, uint64(m.n))
	e.out = binary.AppendVarint(e.out, int64(m.at-e.end))
	e.done, e.end = m.start+m.n, m.at+m.n
}
