// Package backendtest is what package backend promises, as a test that every
// storage and every decorator passes:
//
//	func TestConformance(t *testing.T) {
//		backendtest.Run(t, func(t *testing.T) backend.Interface { return mem.New(time.Now) })
//	}
//
// The scripts in spec.go are the promises that need one caller; what needs
// several callers at once is in concurrent.go, and what needs an optional
// interface in optional.go.
package backendtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/backend"
)

// Run tests a storage. open returns a new and empty one at each call and
// registers what must be cleaned up with t. What the storage lacks of Swapper and
// Stager is skipped.
func Run(t *testing.T, open func(t *testing.T) backend.Interface) {
	for _, s := range scripts {
		t.Run(s.name, func(t *testing.T) {
			b := open(t)
			for i, op := range s.ops {
				if err := op.do(t.Context(), b); err != nil {
					t.Fatalf("step %d, %s: %v", i+1, op.text, err)
				}
			}
		})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

// op is one step of a script.
type op struct {
	text string
	do   func(ctx context.Context, b backend.Interface) error
}

// put puts an object.
func put(name, data string) op { return putErr(name, data, nil) }

// putErr puts an object and expects want.
func putErr(name, data string, want error) op {
	return op{fmt.Sprintf("put %q", name), func(ctx context.Context, b backend.Interface) error {
		return expect(b, name, backend.PutBytes(ctx, b, name, []byte(data)), want)
	}}
}

// putSize puts the first size bytes of body.
func putSize(name, body string, size int64, want error) op {
	return op{fmt.Sprintf("put %d bytes of %d", size, len(body)), func(ctx context.Context, b backend.Interface) error {
		return expect(b, name, b.Put(ctx, name, strings.NewReader(body), size), want)
	}}
}

// get expects the object's contents, by Open and in pieces of odd sizes too, and
// its size by Stat.
func get(name, data string) op {
	return op{fmt.Sprintf("get %q", name), func(ctx context.Context, b backend.Interface) error {
		return holds(ctx, b, name, []byte(data))
	}}
}

// missing expects that there is no such object, whichever way it is asked for.
func missing(name string) op {
	return op{fmt.Sprintf("expect no %q", name), func(ctx context.Context, b backend.Interface) error {
		r, err := b.Open(ctx, name)
		if err == nil {
			r.Close()
		}
		_, serr := b.Stat(ctx, name)
		return errors.Join(
			expect(b, name, err, backend.ErrNotExist),
			expect(b, name, serr, backend.ErrNotExist),
			expect(b, name, b.ReadAt(ctx, name, make([]byte, 1), 0), backend.ErrNotExist),
			expect(b, name, b.ReadAt(ctx, name, nil, 0), backend.ErrNotExist),
			expect(b, name, b.Delete(ctx, name), backend.ErrNotExist),
		)
	}}
}

// readAt expects len(want) bytes at off.
func readAt(name string, off int64, want string) op {
	return op{fmt.Sprintf("read %q at %d", name, off), func(ctx context.Context, b backend.Interface) error {
		p := make([]byte, len(want))
		if err := b.ReadAt(ctx, name, p, off); err != nil {
			return err
		}
		if string(p) != want {
			return fmt.Errorf("got %q, want %q", p, want)
		}
		return nil
	}}
}

// readPast expects that there are not n bytes at off.
func readPast(name string, off int64, n int) op {
	return op{fmt.Sprintf("read %d bytes of %q at %d", n, name, off), func(ctx context.Context, b backend.Interface) error {
		return expect(b, name, b.ReadAt(ctx, name, make([]byte, n), off), io.ErrUnexpectedEOF)
	}}
}

// del deletes an object.
func del(name string) op {
	return op{fmt.Sprintf("delete %q", name), func(ctx context.Context, b backend.Interface) error {
		return b.Delete(ctx, name)
	}}
}

// list expects exactly these objects below prefix.
func list(prefix string, want ...string) op {
	return op{fmt.Sprintf("list %q", prefix), func(ctx context.Context, b backend.Interface) error {
		got, err := listAll(ctx, b, prefix)
		if err != nil {
			return err
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	}}
}

// refused expects that no method takes the name, and that none says merely that
// there is no such object.
func refused(name string) op {
	return op{fmt.Sprintf("refuse name %q", name), func(ctx context.Context, b backend.Interface) error {
		_, oerr := b.Open(ctx, name)
		_, serr := b.Stat(ctx, name)
		errs := map[string]error{
			"put":    backend.PutBytes(ctx, b, name, []byte("x")),
			"open":   oerr,
			"readat": b.ReadAt(ctx, name, make([]byte, 1), 0),
			"stat":   serr,
			"delete": b.Delete(ctx, name),
		}
		if s, ok := b.(backend.Swapper); ok {
			errs["swap"] = s.Swap(ctx, name, nil, []byte("x"))
		}
		if s, ok := b.(backend.Stager); ok {
			st, err := s.Stage(ctx)
			if err != nil {
				return err
			}
			errs["commit"] = st.Commit(ctx, name)
		}
		for _, m := range slices.Sorted(maps.Keys(errs)) {
			if errs[m] == nil || errors.Is(errs[m], backend.ErrNotExist) {
				return fmt.Errorf("%s: %v", m, errs[m])
			}
		}
		return nil
	}}
}

// refusedPrefix expects that List takes no such prefix.
func refusedPrefix(prefix string) op {
	return op{fmt.Sprintf("refuse prefix %q", prefix), func(ctx context.Context, b backend.Interface) error {
		if got, err := listAll(ctx, b, prefix); err == nil {
			return fmt.Errorf("listed %q", got)
		}
		return nil
	}}
}

// expect compares an error with the one that is promised, and looks whether it
// names what it is about.
func expect(b backend.Interface, name string, err, want error) error {
	switch {
	case want == nil:
		return err
	case !errors.Is(err, want):
		return fmt.Errorf("error %v, want %v", err, want)
	case !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), b.String()):
		return fmt.Errorf("error %q does not name the object %s and the storage %s", err, name, b)
	}
	return nil
}

// holds checks the object's contents through every method that reads.
func holds(ctx context.Context, b backend.Interface, name string, want []byte) error {
	got, err := backend.ReadAll(ctx, b, name, int64(len(want)))
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("what Open yields, %d bytes, is not the %d that were put", len(got), len(want))
	}
	info, err := b.Stat(ctx, name)
	if err != nil {
		return err
	}
	if info.Name != name || info.Size != int64(len(want)) || info.Modified.IsZero() {
		return fmt.Errorf("what Stat says of an object of %[2]d bytes is %+[1]v", info, len(want))
	}
	p := make([]byte, len(want))
	if err := b.ReadAt(ctx, name, p, 0); err != nil {
		return err
	}
	if !bytes.Equal(p, want) {
		return errors.New("ReadAt yields other bytes than were put")
	}
	return nil
}

// listAll returns the sorted names below prefix.
func listAll(ctx context.Context, b backend.Interface, prefix string) ([]string, error) {
	var names []string
	for info, err := range b.List(ctx, prefix) {
		if err != nil {
			return names, err
		}
		names = append(names, info.Name)
	}
	slices.Sort(names)
	return names, nil
}

// noise returns n bytes that depend on the seed alone.
func noise(seed, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	p := make([]byte, n)
	rand.NewChaCha8(key).Read(p)
	return p
}
