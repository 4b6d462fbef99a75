package repo

import (
	"encoding/binary"
	"sort"
	"sync/atomic"

	"github.com/cairn-backup/cairn/chunk"
)

// need says what the snapshots need of a chunk.
type need uint8

const (
	// wanted: its contents, in whatever form.
	wanted need = 1 << iota
	// wantedWhole: a home that does not hang on another chunk, as deltas are made
	// against it.
	wantedWhole
	// moved: it is in a pack that this prune has written.
	moved
	// contested: several packs could be its home, and one is enough.
	contested
	// whole: a pack is said to have it so. sure: by the admin.
	whole
	sure
)

// marks has what is needed of each chunk that the index knows, in 9 bytes a chunk: 90
// MB for 10 million.
//
// Chunks are told apart by the first 8 bytes of their IDs, which are those of a keyed
// hash. Should two of them begin alike, what is needed of one is needed of the other:
// garbage may stay, but nothing needed can go.
//
// After ready, set and of may be called concurrently.
type marks struct {
	prefixes []uint64        // sorted, each once
	needs    []uint32        // four in one, as there is no atomic access to bytes
	last     chunk.ID        // that was added
	twins    map[uint64]bool // prefixes of several chunks
}

func prefix(id chunk.ID) uint64 { return binary.BigEndian.Uint64(id[:]) }

// add makes room for a chunk. IDs come in ascending order.
func (m *marks) add(id chunk.ID) {
	p := prefix(id)
	if n := len(m.prefixes); n == 0 || m.prefixes[n-1] != p {
		m.prefixes = append(m.prefixes, p)
	} else if id != m.last {
		if m.twins == nil {
			m.twins = make(map[uint64]bool)
		}
		m.twins[p] = true
	}
	m.last = id
}

// ready ends the adding.
func (m *marks) ready() {
	m.needs = make([]uint32, (len(m.prefixes)+3)/4)
}

// at returns the position of a chunk, -1 if the index does not know it.
func (m *marks) at(id chunk.ID) int {
	p := prefix(id)
	// The prefixes are evenly spread, so that the position is nearly known: the search
	// begins there, and doubles its steps.
	n := len(m.prefixes)
	if n == 0 {
		return -1
	}
	guess := int(float64(p) / (1 << 64) * float64(n))
	guess = min(max(guess, 0), n-1)
	low, high := guess, guess
	for step := 64; low > 0 && m.prefixes[low] > p; step *= 2 {
		low = max(low-step, 0)
	}
	for step := 64; high < n && m.prefixes[high] < p; step *= 2 {
		high = min(high+step, n)
	}
	i := low + sort.Search(high-low, func(i int) bool { return m.prefixes[low+i] >= p })
	if i == n || m.prefixes[i] != p {
		return -1
	}
	return i
}

// set adds a need, and reports whether the index knows the chunk.
func (m *marks) set(id chunk.ID, what need) bool {
	i := m.at(id)
	if i < 0 {
		return false
	}
	word, shift := &m.needs[i/4], i%4*8
	if bits := uint32(what) << shift; atomic.LoadUint32(word)&bits != bits {
		atomic.OrUint32(word, bits)
	}
	return true
}

// clear takes a need from all chunks.
func (m *marks) clear(what need) {
	for i := range m.needs {
		m.needs[i] &^= uint32(what) * 0x01010101
	}
}

// count returns how many chunks have one of the needs. Twins count as one.
func (m *marks) count(what need) (n int) {
	for i := range m.prefixes {
		if m.have(i)&what != 0 {
			n++
		}
	}
	return n
}

// of returns what is needed of a chunk.
func (m *marks) of(id chunk.ID) need {
	if i := m.at(id); i >= 0 {
		return m.have(i)
	}
	return 0
}

// have returns what is needed of the chunk at a position.
func (m *marks) have(i int) need { return need(atomic.LoadUint32(&m.needs[i/4]) >> (i % 4 * 8)) }

// isSo reports what is known of this very chunk.
func (m *marks) isSo(id chunk.ID, what need) bool { return m.of(id)&what != 0 && !m.twins[prefix(id)] }

// isMoved reports whether a chunk is known to be in a new pack.
func (m *marks) isMoved(id chunk.ID) bool { return m.isSo(id, moved) }
