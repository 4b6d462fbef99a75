package seal

import (
	"crypto/ed25519"

	"github.com/zeebo/blake3"
)

// Keys are the symmetric keys of one epoch of one deduplication domain, all
// derived from its secret. Every slot that may write has them; none of them
// decrypts contents.
type Keys struct {
	// ChunkData, ChunkNode and ChunkList key the IDs of chunks of each kind.
	ChunkData, ChunkNode, ChunkList [32]byte
	// Chunker makes the cut points of content-defined chunking secret.
	Chunker [32]byte
	// Index seals sections and pack directories.
	Index [32]byte
	// ContentHash keys the hashes of whole files that entries carry.
	ContentHash [32]byte
	// TreeCut makes the cut points of the entry tree secret.
	TreeCut [32]byte
	// Cache seals what a machine keeps in its local cache.
	Cache [32]byte
}

// DeriveKeys returns the keys of an epoch secret.
func DeriveKeys(secret [32]byte) *Keys {
	return &Keys{
		ChunkData:   derive("cairn v1 chunk id data", secret[:]),
		ChunkNode:   derive("cairn v1 chunk id node", secret[:]),
		ChunkList:   derive("cairn v1 chunk id list", secret[:]),
		Chunker:     derive("cairn v1 chunker", secret[:]),
		Index:       derive("cairn v1 index", secret[:]),
		ContentHash: derive("cairn v1 content hash", secret[:]),
		TreeCut:     derive("cairn v1 tree cut", secret[:]),
		Cache:       derive("cairn v1 local cache", secret[:]),
	}
}

// derive is BLAKE3's key derivation over the parts of the material.
func derive(context string, material ...[]byte) (key [32]byte) {
	h := blake3.NewDeriveKey(context)
	for _, m := range material {
		h.Write(m)
	}
	h.Sum(key[:0])
	return key
}

// Keyring has the keys of all epochs and domains that a slot may know.
type Keyring struct {
	Repository RepositoryID
	keys       map[Place]*Keys
	secrets    map[Place][32]byte
}

// NewKeyring returns an empty keyring for a repository.
func NewKeyring(id RepositoryID) *Keyring {
	return &Keyring{Repository: id, keys: make(map[Place]*Keys), secrets: make(map[Place][32]byte)}
}

// Add makes the keys of a place known. It must not run concurrently with Keys.
func (r *Keyring) Add(p Place, secret [32]byte) {
	r.keys[p] = DeriveKeys(secret)
	r.secrets[p] = secret
}

// Secret returns the epoch secret of a place, which an admin passes on to new
// slots, or false if the slot does not know it.
func (r *Keyring) Secret(p Place) ([32]byte, bool) {
	s, ok := r.secrets[p]
	return s, ok
}

// Len returns how many places are known.
func (r *Keyring) Len() int { return len(r.keys) }

// Keys returns the keys of a place, or false if the slot does not know them.
func (r *Keyring) Keys(p Place) (*Keys, bool) {
	k, ok := r.keys[p]
	return k, ok
}

// NewRepositoryID derives a repository's ID from its public keys.
func NewRepositoryID(admin ed25519.PublicKey, public *PublicKey) RepositoryID {
	h := blake3.New()
	h.WriteString("cairn v1 repository\x00")
	h.Write(admin)
	h.Write(public.Bytes())
	var id RepositoryID
	h.Sum(id[:0])
	return id
}
