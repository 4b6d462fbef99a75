package repo

import (
	"errors"
	"fmt"
)

// Errors that callers tell apart with errors.Is. See also seal.ErrWrongSecret
// and seal.ErrNewer.
var (
	// ErrNoRepository: there is no config object at the place.
	ErrNoRepository = errors.New("there is no repository")
	// ErrExists: Init found a repository.
	ErrExists = errors.New("there is a repository already")
	// ErrFenced: somebody ended this writer's lease, and what it wrote may be
	// gone. Run again.
	ErrFenced = errors.New("the run was fenced off by another one")
	// ErrWriteOnly: the key can make snapshots but neither read nor
	// administer.
	ErrWriteOnly = errors.New("this needs a key with full access; the one given is write-only")
	// ErrDamage: something that the repository should hold is missing,
	// altered or not to be trusted.
	ErrDamage = errors.New("the repository is damaged")
	// ErrNoSnapshot: no snapshot fits.
	ErrNoSnapshot = errors.New("no such snapshot")
	// ErrAmbiguous: several snapshots fit.
	ErrAmbiguous = errors.New("several snapshots fit")
)

// damaged marks err as damage of the named object.
func damaged(object string, err error) error {
	if errors.Is(err, ErrDamage) {
		return err
	}
	return &DamageError{Object: object, Err: err}
}

// DamageError names the object that is damaged. It matches ErrDamage.
type DamageError struct {
	Object string // its name in the storage, or what it is
	Err    error
}

func (e *DamageError) Error() string { return fmt.Sprintf("%s: %v", e.Object, e.Err) }

// Unwrap returns the cause.
func (e *DamageError) Unwrap() error { return e.Err }

// Is reports that the error is one of damage.
func (e *DamageError) Is(target error) bool { return target == ErrDamage }
