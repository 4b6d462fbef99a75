// Package backend is the storage that a repository stands on: a flat set of
// named byte strings with the few promises that the engine needs. It knows
// nothing of what it stores.
//
// Interface is what every storage can do. What only some can do is an
// interface of its own (Swapper, Stager), found by a type assertion, so that
// a decorator forwards what it means to forward (see Narrow). The packages
// below this one are storages (mem, local) and decorators (faulty, limit);
// backendtest is the suite that all of them pass.
//
// # Names
//
// A name is one or more components of [a-z0-9.-] joined by "/", none of them "."
// or "..", none empty, 255 bytes in all at most. Every method refuses any other
// name (ValidName). No object's name is a directory of another's: that is the
// caller's to keep, and a storage made of directories refuses the second one.
//
// # What a loss of power leaves
//
// What Put, Commit or Swap acknowledged stays, whole. What they had not yet
// acknowledged is there whole, or not at all, or, for Swap, is still the old
// contents. Delete is the exception: its object may come back, whole.
package backend

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// Errors that callers tell apart with errors.Is. Everything else is a fault of
// the storage or of the way to it.
var (
	// ErrNotExist: there is no object of that name.
	ErrNotExist = errors.New("object does not exist")
	// ErrExist: Put or Commit found an object of that name.
	ErrExist = errors.New("object exists already")
	// ErrConflict: Swap found other contents than it was told to replace.
	ErrConflict = errors.New("object was changed by somebody else")
)

// Info describes a stored object.
type Info struct {
	Name string
	Size int64 // bytes
	// Modified is the storage's own time of the object's creation or last
	// swap. It is for people and for patience, never for safety.
	Modified time.Time
	// Cold: the object can't be read before it was thawed, which takes hours and
	// costs money, and so may deleting it soon.
	Cold bool
}

// Interface is a storage of immutable objects. All methods may be called
// concurrently. An error names the object and the storage. A call whose
// context is done already changes nothing and returns the context's error.
type Interface interface {
	// Put creates an object from the first size bytes of body, atomically: other
	// calls see the whole object or none. They may see it shortly before Put
	// returns, and what they saw so may still be lost with the power. When Put
	// has returned nil the object survives a loss of power and every later List
	// and Open sees it. If an object of that name exists, Put
	// changes nothing and returns ErrExist, and the object that is there
	// survives as if its own Put had been acknowledged: whoever meets ErrExist
	// may rely on it. A body shorter than size is an error
	// (io.ErrUnexpectedEOF) and leaves no object. After any other error the
	// object may or may not be there, never in part. Of several concurrent
	// Puts of one name exactly one succeeds.
	//
	// body may be read from several goroutines and more than once, as it suits the
	// storage.
	Put(ctx context.Context, name string, body io.ReaderAt, size int64) error

	// Open returns the whole object. The caller closes it. ctx governs the
	// reading too. ErrNotExist, if there is none, comes from Open and not from
	// Read. A short object is an error of Read (io.ErrUnexpectedEOF), never a
	// quiet end, as far as the storage knows the true size. What is open can
	// be read to its end even if the object is deleted or swapped, or else Read
	// fails; it never yields a mixture.
	Open(ctx context.Context, name string) (io.ReadCloser, error)

	// ReadAt fills p with the object's bytes from offset off. If the object
	// ends before p is full, the error is io.ErrUnexpectedEOF (wrapped). After
	// any error the contents of p are undefined.
	ReadAt(ctx context.Context, name string, p []byte, off int64) error

	// Stat describes the object, or returns ErrNotExist.
	Stat(ctx context.Context, name string) (Info, error)

	// List yields the objects whose names begin with prefix, in no particular
	// order, each once. prefix is empty or ends with "/". Every object whose
	// Put returned before List was called and that is not deleted meanwhile is
	// yielded. The pairs are (info, nil) until the end or one last (Info{}, err).
	// The loop body may call any method.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]

	// Delete removes the object: every later call of any process finds it gone.
	// Only a loss of power soon afterwards may bring it back, whole; nothing
	// but space may depend on its absence then. Deleting what is not there
	// returns ErrNotExist and changes nothing.
	Delete(ctx context.Context, name string) error

	// String says which storage this is, for messages, without any secret.
	String() string
}

// Swapper is a storage that can change one small object atomically. Only a few
// objects of a repository are ever changed (config, condemned), and those are
// not deleted while somebody may swap them: a Delete at the same time as a Swap
// may be lost.
type Swapper interface {
	// Swap replaces the object's contents with new, if they are old, else it
	// returns ErrConflict and changes nothing. A nil old means that the object
	// must not exist yet; an empty old that is not nil means an empty object.
	// Of several concurrent Swaps from the same contents exactly one succeeds.
	// Durability and atomicity are as for Put.
	Swap(ctx context.Context, name string, old, new []byte) error
}

// Stager is a storage to which an object can be written bit by bit before its
// name is known, which spares a copy where names are hashes of contents.
type Stager interface {
	// Stage begins an object without a name. ctx governs the writes too.
	Stage(ctx context.Context) (Staged, error)
}

// Staged is an object being written. It must end with Commit or Abort; what a
// killed process leaves behind is never seen as an object. Not for concurrent use.
type Staged interface {
	io.Writer
	// Commit gives the object its name, with the promises of Put. Whatever it
	// returns, it ends the staged object: what got no name is removed, and
	// another Write or Commit is an error.
	Commit(ctx context.Context, name string) error
	// Abort removes what was written. After Commit or Abort it does nothing, so
	// that it can be deferred.
	Abort() error
}
