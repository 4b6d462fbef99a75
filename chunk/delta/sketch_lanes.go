package delta

const (
	// window is how many bytes decide over a hash.
	window = 64
	// A block is gone through in four lanes side by side, as in package chunk
	// and for its reason: one chain of hashes would leave the processor idle
	// for half of the time.
	lane  = 2048
	block = 4 * lane

	// A hash of at most limit is a sample: one in 512. Of its other 55 bits
	// the top ones say which class it is in.
	sampled = 55
	limit   = 1<<sampled - 1
)

// sample has the smallest hash of each class.
type sample [features]uint64

// add puts the hash h into its class, if it is a sample.
func (f *sample) add(h uint64) {
	if h <= limit {
		c := h >> (sampled - 8) * features >> 8
		f[c] = min(f[c], h)
	}
}

// take adds all hashes of p.
func (f *sample) take(g *[256]uint64, p []byte) {
	var h uint64
	for ; len(p) >= block; p = p[block:] {
		h = f.takeBlock(g, h, (*[block]byte)(p))
	}
	for _, b := range p {
		h = h<<1 + g[b]
		f.add(h)
	}
}

// takeBlock adds all hashes of p. h is the hash at its front; it returns the
// one at its end. The arrays have lengths that the compiler knows, so it leaves
// out all bounds checks; two bytes a turn are a little faster than one.
//
// The race detector would look at each byte and need fifty times as long. That p is
// read it sees from what take does with the bytes behind the last block.
//
//go:norace
func (f *sample) takeBlock(g *[256]uint64, h uint64, p *[block]byte) uint64 {
	h0 := h
	var h1, h2, h3 uint64
	for i := lane - (window - 1); i < lane; i++ {
		h1 = h1<<1 + g[p[i]]
		h2 = h2<<1 + g[p[i+lane]]
		h3 = h3<<1 + g[p[i+2*lane]]
	}
	for i := 0; i < lane-1; i += 2 {
		h0 = h0<<1 + g[p[i]]
		h1 = h1<<1 + g[p[i+lane]]
		h2 = h2<<1 + g[p[i+2*lane]]
		h3 = h3<<1 + g[p[i+3*lane]]
		if h0 <= limit || h1 <= limit || h2 <= limit || h3 <= limit {
			for _, h := range [...]uint64{h0, h1, h2, h3} {
				f.add(h)
			}
		}
		h0 = h0<<1 + g[p[i+1]]
		h1 = h1<<1 + g[p[i+1+lane]]
		h2 = h2<<1 + g[p[i+1+2*lane]]
		h3 = h3<<1 + g[p[i+1+3*lane]]
		if h0 <= limit || h1 <= limit || h2 <= limit || h3 <= limit {
			for _, h := range [...]uint64{h0, h1, h2, h3} {
				f.add(h)
			}
		}
	}
	return h3
}
