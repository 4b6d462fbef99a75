package backend_test

import (
	"context"
	"io"

	"github.com/cairn-backup/cairn/backend"
)

// short is a storage whose objects break off at their end.
type short struct{ backend.Interface }

func (s short) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := s.Interface.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(r, broken{}), r}, nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
