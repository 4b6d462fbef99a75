package fsmeta

// ChmodPinned is what ChmodAt falls back to on old kernels.
var ChmodPinned = chmodPinned

// NewCountedOwners returns Owners that ask the given functions.
func NewCountedOwners(nameOf, idOf func(string) (string, error)) *Owners {
	d := func() directory { return directory{nameOf: nameOf, idOf: idOf} }
	return &Owners{users: d(), groups: d()}
}

// NamesOf returns Names as if a directory had shown these.
func NamesOf(list []string) (*Names, error) {
	n := new(Names)
	for _, name := range list {
		if err := n.add([]byte(name), 0); err != nil {
			return nil, err
		}
	}
	n.sort()
	return n, nil
}

// Blocks returns how many blocks hold the names, and their bytes.
func (n *Names) Blocks() (count, size int) {
	for _, b := range n.blocks {
		size += cap(b)
	}
	return len(n.blocks), size
}
