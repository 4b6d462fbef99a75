package chunk

import (
	"fmt"
	"sync"

	"github.com/zeebo/blake3"
)

// Keys are the secrets that IDs depend on, one for each Kind, so that equal
// bytes of two kinds are two chunks. Whoever holds them can test whether a
// known plaintext is stored.
type Keys struct {
	Data, Node, List [32]byte
}

// Hasher computes the IDs of chunks. It may be used concurrently.
type Hasher struct {
	// A BLAKE3 state has some 11 KB, too much to make for each chunk, and a
	// sum changes it. Each pool holds states under the key of one kind, in
	// the order of the kinds; there are at most about as many as concurrent
	// calls.
	pools [3]sync.Pool
}

// NewHasher returns a Hasher under the given keys.
func NewHasher(k Keys) *Hasher {
	h := new(Hasher)
	for i, key := range [...][32]byte{k.Data, k.Node, k.List} {
		keyed, err := blake3.NewKeyed(key[:])
		if err != nil {
			panic(fmt.Sprintf("chunk: internal error: BLAKE3 refuses a key of 32 bytes: %v", err))
		}
		h.pools[i].New = func() any { return keyed.Clone() }
	}
	return h
}

// Sum returns the ID of the chunk of the given kind with plaintext p: the
// BLAKE3 keyed hash, 32 bytes, under the key of that kind. Once the Hasher is
// warm it allocates nothing. It panics if kind is not valid; who reads kinds
// from storage checks them first.
func (h *Hasher) Sum(kind Kind, p []byte) ID {
	if !kind.Valid() {
		panic(fmt.Sprintf("chunk: no ID key for %v", kind))
	}
	pool := &h.pools[kind-Data]
	state := pool.Get().(*blake3.Hasher)
	defer pool.Put(state)

	var id ID
	state.Reset()
	state.Write(p) // never fails, says its documentation
	state.Sum(id[:0])
	return id
}
