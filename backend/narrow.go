package backend

// Full is a storage that has everything that is optional. A decorator has all
// the methods and lets Narrow take away what its base lacks.
type Full interface {
	Interface
	Swapper
	Stager
}

// Narrow returns d with those of Swapper and Stager only that base has too. A
// decorator's constructor ends with it, so that a type assertion on the
// decorated storage tells the truth about the storage beneath.
func Narrow(d Full, base Interface) Interface {
	_, swaps := base.(Swapper)
	_, stages := base.(Stager)
	switch {
	case swaps && stages:
		return d
	case swaps:
		return struct {
			Interface
			Swapper
		}{d, d}
	case stages:
		return struct {
			Interface
			Stager
		}{d, d}
	default:
		return struct{ Interface }{d}
	}
}
