package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/blake3"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/pack"
)

// create stores an object whose name nobody else has a use for. One that is
// there already is that of a try whose answer was lost, if it has the same bytes.
// If it hasn't, somebody took the name: to count that as stored would let whoever can
// only create objects make one vanish.
func create(ctx context.Context, b backend.Interface, name string, object []byte) error {
	err := backend.PutBytes(ctx, b, name, object)
	if !errors.Is(err, backend.ErrExist) {
		return err
	}
	size, serr := b.Stat(ctx, name)
	if serr != nil {
		return serr
	}
	if size.Size == int64(len(object)) {
		there, rerr := backend.ReadAll(ctx, b, name, size.Size)
		if rerr != nil || bytes.Equal(there, object) {
			return rerr
		}
	}
	return damaged(name, errTaken)
}

var errTaken = errors.New("something else was put under its name; delete it")

// commitPack gives a pack that was written its name. A pack's key is random, so a pack
// of that name can only be this one, stored by a try whose answer was lost; or
// something else, by who saw it being written.
func commitPack(ctx context.Context, b backend.Interface, staged backend.Staged, name string, id pack.ID) error {
	err := staged.Commit(ctx, name)
	if errors.Is(err, backend.ErrExist) {
		err = isPack(ctx, b, name, id)
	}
	if err != nil {
		return fmt.Errorf("store pack: %w", err)
	}
	return nil
}

// isPack reports, as an error, that the object under a pack's name is not the
// pack.
func isPack(ctx context.Context, b backend.Interface, name string, id pack.ID) error {
	object, err := b.Open(ctx, name)
	if err != nil {
		return err
	}
	defer object.Close()
	sum := blake3.New()
	if _, err := io.Copy(sum, object); err != nil {
		return err
	}
	if pack.ID(sum.Sum(nil)) != id {
		return damaged(name, errTaken)
	}
	return nil
}
