package chunk

// Rolling a hash is a chain: each step waits two cycles for the one before
// it, while the processor could begin several. A hash depends on no more than
// 64 bytes, so a block is taken as four lanes side by side, of which the
// later three first read up on the end of the lane before theirs. Four
// independent chains fill the processor: about twice the speed of one for the
// plain hash, and a third more or better with mix. Lanes are long enough that
// reading up costs little, and short enough that little is lost at a cut,
// where the block is gone through again byte by byte.
const (
	lane  = 2048
	block = 4 * lane
)

// pass rolls h over p and returns the hash at its end and true, or false if
// there is a cut somewhere in p.
func (f *fastCDC) pass(h uint64, p *[block]byte, limit uint64) (uint64, bool) {
	g := &f.table
	var h1, h2, h3 uint64
	for i := lane - (window - 1); i < lane; i++ {
		h1 = h1<<1 + g[p[i]]
		h2 = h2<<1 + g[p[i+lane]]
		h3 = h3<<1 + g[p[i+2*lane]]
	}
	if f.mixed {
		return passMixed(g, h, h1, h2, h3, p, limit, f.odd1, f.odd2)
	}
	return passPlain(g, h, h1, h2, h3, p, limit)
}

// passPlain takes two bytes a turn in each lane. The arrays have lengths that
// the compiler knows, so it leaves out all bounds checks.
//
// The race detector would look at each byte and need fifty times as long. That p is
// read it sees in pass, which goes through some of each lane.
//
//go:norace
func passPlain(g *[256]uint64, h0, h1, h2, h3 uint64, p *[block]byte, limit uint64) (uint64, bool) {
	for i := 0; i < lane-1; i += 2 {
		h0 = h0<<1 + g[p[i]]
		h1 = h1<<1 + g[p[i+lane]]
		h2 = h2<<1 + g[p[i+2*lane]]
		h3 = h3<<1 + g[p[i+3*lane]]
		if h0 <= limit || h1 <= limit || h2 <= limit || h3 <= limit {
			return 0, false
		}
		h0 = h0<<1 + g[p[i+1]]
		h1 = h1<<1 + g[p[i+1+lane]]
		h2 = h2<<1 + g[p[i+1+2*lane]]
		h3 = h3<<1 + g[p[i+1+3*lane]]
		if h0 <= limit || h1 <= limit || h2 <= limit || h3 <= limit {
			return 0, false
		}
	}
	return h3, true
}

// passMixed is passPlain with mix before each test.
//
//go:norace
func passMixed(g *[256]uint64, h0, h1, h2, h3 uint64, p *[block]byte, limit, odd1, odd2 uint64) (uint64, bool) {
	for i := 0; i < lane-1; i += 2 {
		h0 = h0<<1 + g[p[i]]
		h1 = h1<<1 + g[p[i+lane]]
		h2 = h2<<1 + g[p[i+2*lane]]
		h3 = h3<<1 + g[p[i+3*lane]]
		if mix(h0, odd1, odd2) <= limit || mix(h1, odd1, odd2) <= limit ||
			mix(h2, odd1, odd2) <= limit || mix(h3, odd1, odd2) <= limit {
			return 0, false
		}
		h0 = h0<<1 + g[p[i+1]]
		h1 = h1<<1 + g[p[i+1+lane]]
		h2 = h2<<1 + g[p[i+1+2*lane]]
		h3 = h3<<1 + g[p[i+1+3*lane]]
		if mix(h0, odd1, odd2) <= limit || mix(h1, odd1, odd2) <= limit ||
			mix(h2, odd1, odd2) <= limit || mix(h3, odd1, odd2) <= limit {
			return 0, false
		}
	}
	return h3, true
}
