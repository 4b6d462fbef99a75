package chunk

import "github.com/zeebo/blake3"

// Splitter cuts an input into chunks by its content. It is immutable and may
// be used concurrently.
type Splitter interface {
	// Cut returns the length of the first chunk of p, where p holds either at
	// least Max bytes of the input or all that is left of it. The length is 0
	// only if p is empty, never more than Max, and at least Min unless p is
	// shorter. Cut allocates nothing and keeps nothing.
	//
	// A cut depends on nothing behind it. So a length below both len(p) and
	// Max stands even if p was neither Max bytes nor the rest of the input:
	// every p that begins with the same bytes is cut there.
	Cut(p []byte) int

	// Params returns what the Splitter was made from.
	Params() Params
}

// NewSplitter returns a Splitter for valid parameters. All that is secret in
// it is derived from key, for each algorithm separately: a repository that is
// split anew by another algorithm gives nothing away about the first.
func NewSplitter(p Params, key [32]byte) (Splitter, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if p.Algorithm == Rabin {
		return newRabin(p, key)
	}
	return newFastCDC(p, key), nil
}

// The contexts of key derivation. They are part of the format.
const (
	contextGear       = "cairn 2026-11 chunker fastcdc gear table"
	contextGearPRF    = "cairn 2026-11 chunker fastcdc-prf gear table"
	contextMixer      = "cairn 2026-11 chunker fastcdc-prf mixer"
	contextPolynomial = "cairn 2026-11 chunker rabin polynomial"
)

// derive returns an endless stream of secret bytes, the output of BLAKE3's
// derive-key mode for the chunker key in the given context.
func derive(context string, key [32]byte) *blake3.Digest {
	h := blake3.NewDeriveKey(context)
	h.Write(key[:]) // never fails, says its documentation
	return h.Digest()
}
