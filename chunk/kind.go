package chunk

import "fmt"

// Kind says what a chunk's plaintext is. It is part of the derivation of the
// ID: a file that happens to hold the bytes of a tree node is another chunk
// than that node.
type Kind uint8

const (
	// Data is contents: a piece of a large file or stream, or a bundle of
	// small files.
	Data Kind = 1
	// Node is a node of a snapshot's search tree.
	Node Kind = 2
	// List is a node of the chunk list of a file that has very many chunks.
	List Kind = 3
)

// Valid reports whether k is one of the kinds above.
func (k Kind) Valid() bool { return k >= Data && k <= List }

// IsMeta reports whether chunks of this kind live in meta packs, which always
// stay in a hot storage class.
func (k Kind) IsMeta() bool { return k == Node || k == List }

func (k Kind) String() string {
	switch k {
	case Data:
		return "data"
	case Node:
		return "node"
	case List:
		return "list"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}
