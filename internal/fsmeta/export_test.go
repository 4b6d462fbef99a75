package fsmeta

// ChmodPinned is what ChmodAt falls back to on old kernels.
var ChmodPinned = chmodPinned

// NewCountedOwners returns Owners that ask the given functions.
func NewCountedOwners(nameOf, idOf func(string) (string, error)) *Owners {
	d := func() directory { return directory{nameOf: nameOf, idOf: idOf} }
	return &Owners{users: d(), groups: d()}
}
