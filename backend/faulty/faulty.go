// Package faulty is a storage that fails on demand. What fails is said in lines
// of text, so that a fault stands in a test's table, in a file or in a failure
// message, and can be replayed from there:
//
//	put data/* #3: err EIO             the third Put below data/ fails, and does nothing
//	put *: done-but-error              Puts succeed, but their answers are lost
//	open snapshots/*: corrupt byte 17  byte 17 of each manifest is wrong
//	readat data/* #2-4: truncate 100   three reads find packs of 100 bytes
//	delete *: err EACCES               nothing can be deleted
//	list: err                          listing fails at once
//	yield data/* #8: err               a listing breaks off at its eighth object
//	yield snapshots/ab: hide           a manifest is not listed
//	* #57: crash                       the 57th call and all after it fail: the process is dead
//	put leases/* #2: done-and-crash    the second succeeds, but the process dies before it hears so
//
// # Grammar
//
//	rules   = { line "\n" }                 empty lines and lines that begin with "#" say nothing
//	line    = op [ pattern ] [ count ] ":" fault
//	op      = "put" | "open" | "read" | "readat" | "stat" | "list" | "yield" | "delete"
//	        | "swap" | "stage" | "write" | "commit" | "*"
//	pattern = object name, in which "*" stands for any bytes, "/" too; none is "*"
//	count   = "#" N | "#" N "-" M | "#" N "-"    which of the matching operations, from 1; none is all
//	fault   = "err" [ cause ]               fails, without effect
//	        | "done-but-error" [ cause ]    has its effect, and fails: put, delete, swap, commit, *
//	        | "corrupt" "byte" N            inverts byte N of the object: open, readat, put, write
//	        | "truncate" [ N ]              leaves N bytes (0) of the object: open, readat, put
//	        | "hide"                        leaves an object out of a listing: yield
//	        | "crash"                       fails, and so does everything later
//	        | "done-and-crash"              has its effect, and fails, and so does everything later: as above
//	cause   = "EIO" | "ENOSPC" | "EACCES" | "EROFS" | "ETIMEDOUT" | "ECONNRESET" | "EOF"
//	        | "notexist" | "exist" | "conflict" | "canceled" | "deadline"
//
// "read" is a single Read of an opened object and "yield" one object of a listing;
// "*" means all the others, the calls to the storage. "stage" and "write" know no
// name, "list" matches its prefix. If several rules match an operation, the first
// acts, and all of them count it.
//
// An opened object that is truncated ends quietly, as a file that lost its end
// does; ReadAt behind the end says io.ErrUnexpectedEOF.
package faulty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/cairn-backup/cairn/backend"
)

var (
	// ErrInjected is in every error that a rule causes, beside its cause.
	ErrInjected = errors.New("injected fault")
	// ErrCrashed is the cause of the errors from a crash on.
	ErrCrashed = errors.New("process is dead")
)

// Wrap returns base with the injector's faults. It has Swapper and Stager if base
// has. Several storages may share an injector, which counts their operations
// together.
func (in *Injector) Wrap(base backend.Interface) backend.Interface {
	return backend.Narrow(&storage{base, in}, base)
}

// storage is a storage with faults.
type storage struct {
	base backend.Interface
	in   *Injector
}

// String is that of the storage beneath.
func (s *storage) String() string { return s.base.String() }

// do makes a call, or fails, or both.
func (s *storage) do(f fault, op, name string, call func() error) error {
	switch f.kind {
	case lostAnswer, doneCrash:
		_ = call() // whatever it was, the answer is lost
		return s.fail(f, op, name)
	case fail, crash:
		return s.fail(f, op, name)
	}
	return call()
}

func (s *storage) fail(f fault, op, name string) error {
	return fmt.Errorf("%s %s in %s: %w: %w", op, name, s.base, ErrInjected, f.err())
}

func (s *storage) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	f := s.in.next(opPut, name)
	switch f.kind {
	case corrupt:
		body = corruptBody{body, f.n}
	case truncate:
		size = min(size, f.n)
	}
	return s.do(f, opPut, name, func() error { return s.base.Put(ctx, name, body, size) })
}

func (s *storage) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	f := s.in.next(opOpen, name)
	var r io.ReadCloser
	err := s.do(f, opOpen, name, func() (err error) {
		r, err = s.base.Open(ctx, name)
		return err
	})
	if err != nil {
		if r != nil {
			r.Close()
		}
		return nil, err
	}
	return &reader{r: r, s: s, name: name, f: f}, nil
}

func (s *storage) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	f := s.in.next(opReadAt, name)
	return s.do(f, opReadAt, name, func() error {
		if f.kind == truncate && int64(len(p)) > f.n-off {
			return fmt.Errorf("%s %s in %s: %w: %w", opReadAt, name, s.base, ErrInjected, io.ErrUnexpectedEOF)
		}
		err := s.base.ReadAt(ctx, name, p, off)
		if f.kind == corrupt {
			invert(p, f.n-off)
		}
		return err
	})
}

func (s *storage) Stat(ctx context.Context, name string) (info backend.Info, err error) {
	err = s.do(s.in.next(opStat, name), opStat, name, func() (err error) {
		info, err = s.base.Stat(ctx, name)
		return err
	})
	return info, err
}

func (s *storage) List(ctx context.Context, prefix string) iter.Seq2[backend.Info, error] {
	return func(yield func(backend.Info, error) bool) {
		f := s.in.next(opList, prefix)
		if f.kind != none {
			yield(backend.Info{}, s.fail(f, opList, prefix))
			return
		}
		for info, err := range s.base.List(ctx, prefix) {
			if err == nil {
				f = s.in.next(opYield, info.Name)
			}
			switch f.kind {
			case hide:
				continue
			case fail, crash:
				yield(backend.Info{}, s.fail(f, opYield, info.Name))
				return
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

func (s *storage) Delete(ctx context.Context, name string) error {
	return s.do(s.in.next(opDelete, name), opDelete, name, func() error { return s.base.Delete(ctx, name) })
}

// Swap is there if base has it: see Narrow.
func (s *storage) Swap(ctx context.Context, name string, old, new []byte) error {
	return s.do(s.in.next(opSwap, name), opSwap, name, func() error {
		return s.base.(backend.Swapper).Swap(ctx, name, old, new)
	})
}

// Stage is there if base has it: see Narrow.
func (s *storage) Stage(ctx context.Context) (backend.Staged, error) {
	f := s.in.next(opStage, "")
	var st backend.Staged
	err := s.do(f, opStage, "", func() (err error) {
		st, err = s.base.(backend.Stager).Stage(ctx)
		return err
	})
	if err != nil {
		if st != nil {
			err = errors.Join(err, st.Abort())
		}
		return nil, err
	}
	return &staged{base: st, s: s}, nil
}

// staged is an object being written.
type staged struct {
	base backend.Staged
	s    *storage
	off  int64 // bytes written
}

func (st *staged) Write(p []byte) (n int, err error) {
	f := st.s.in.next(opWrite, "")
	if f.kind == corrupt {
		p = append([]byte(nil), p...) // a Writer must not change what is the caller's
		invert(p, f.n-st.off)
	}
	err = st.s.do(f, opWrite, "", func() (err error) {
		n, err = st.base.Write(p)
		return err
	})
	st.off += int64(n)
	return n, err
}

// Commit ends the staged object also when it fails without effect.
func (st *staged) Commit(ctx context.Context, name string) error {
	f := st.s.in.next(opCommit, name)
	err := st.s.do(f, opCommit, name, func() error { return st.base.Commit(ctx, name) })
	if err != nil {
		err = errors.Join(err, st.base.Abort())
	}
	return err
}

// Abort never fails by a rule: it is what a dead process does as well.
func (st *staged) Abort() error { return st.base.Abort() }

// reader is an opened object.
type reader struct {
	r    io.ReadCloser
	s    *storage
	name string
	f    fault // of Open
	off  int64
}

func (r *reader) Read(p []byte) (int, error) {
	if f := r.s.in.next(opRead, r.name); f.kind != none {
		return 0, r.s.fail(f, opRead, r.name)
	}
	if r.f.kind == truncate {
		if r.off >= r.f.n {
			return 0, io.EOF
		}
		p = p[:min(int64(len(p)), r.f.n-r.off)]
	}
	n, err := r.r.Read(p)
	if r.f.kind == corrupt {
		invert(p[:n], r.f.n-r.off)
	}
	r.off += int64(n)
	return n, err
}

func (r *reader) Close() error { return r.r.Close() }

// corruptBody is a body with byte n inverted.
type corruptBody struct {
	io.ReaderAt
	n int64
}

func (c corruptBody) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	invert(p[:n], c.n-off)
	return n, err
}

// invert inverts byte i of p, if p has it.
func invert(p []byte, i int64) {
	if 0 <= i && i < int64(len(p)) {
		p[i] ^= 0xff
	}
}
