package repo_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
)

// request is one operation on the storage that a process asks for.
type request struct {
	op   string // put, open, read, stat, list, delete or swap
	name string // or the prefix of a list
	data []byte // of put; of swap, what is to be there
	old  []byte // of swap, what has to be there
	off  int64  // of read
	size int    // of read
}

// answer is what the storage says to a request.
type answer struct {
	err   error
	data  []byte         // of open and read
	infos []backend.Info // of list and stat
}

// writes reports whether a request can change the storage.
func (q *request) writes() bool { return q.op == "put" || q.op == "delete" || q.op == "swap" }

func (q *request) compare(o *request) int {
	return cmp.Or(cmp.Compare(q.op, o.op), cmp.Compare(q.name, o.name), cmp.Compare(q.off, o.off), cmp.Compare(q.size, o.size))
}

// equal reports whether two requests ask for the same, to the byte.
func (q *request) equal(o *request) bool {
	return q.compare(o) == 0 && bytes.Equal(q.data, o.data) && bytes.Equal(q.old, o.old)
}

// String is short, for traces.
func (q *request) String() string {
	s := q.op + " " + shortName(q.name)
	if q.op == "read" {
		s += fmt.Sprintf(" %d+%d", q.off, q.size)
	}
	return s
}

// shortName leaves of the hashes in a name what tells them apart.
func shortName(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		if len(p) == 64 {
			parts[i] = p[:6]
		}
	}
	return strings.Join(parts, "/")
}

// serve does what a request asks for, as one step.
func (q *request) serve(m *mem.Mem) (a answer) {
	ctx := context.Background()
	switch q.op {
	case "put":
		a.err = backend.PutBytes(ctx, m, q.name, q.data)
	case "open":
		a.data, a.err = backend.ReadAll(ctx, m, q.name, 1<<30)
	case "read":
		a.data = make([]byte, q.size)
		if a.err = m.ReadAt(ctx, q.name, a.data, q.off); a.err != nil {
			a.data = nil
		}
	case "stat":
		info, err := m.Stat(ctx, q.name)
		a.infos, a.err = []backend.Info{info}, err
	case "list":
		for info, err := range m.List(ctx, q.name) {
			if err != nil {
				return answer{err: err}
			}
			a.infos = append(a.infos, info)
		}
		slices.SortFunc(a.infos, func(x, y backend.Info) int { return cmp.Compare(x.Name, y.Name) })
	case "delete":
		a.err = m.Delete(ctx, q.name)
	case "swap":
		a.err = m.Swap(ctx, q.name, q.old, q.data)
	}
	return a
}

var answerSeed = maphash.MakeSeed()

// sum tells different answers to one request apart.
func (a *answer) sum() uint64 {
	var h maphash.Hash
	h.SetSeed(answerSeed)
	if a.err != nil {
		h.WriteString(a.err.Error())
	}
	h.Write(a.data)
	for _, i := range a.infos {
		fmt.Fprintf(&h, "\x00%s %d %d", i.Name, i.Size, i.Modified.UnixNano())
	}
	return h.Sum64()
}

// String says in few words what the storage said.
func (a *answer) String() string {
	switch {
	case errors.Is(a.err, backend.ErrExist):
		return "exists"
	case errors.Is(a.err, backend.ErrNotExist):
		return "not there"
	case errors.Is(a.err, backend.ErrConflict):
		return "conflict"
	case a.err != nil:
		return a.err.Error()
	case a.data != nil:
		return fmt.Sprintf("%d bytes", len(a.data))
	case a.infos != nil:
		var names []string
		for _, i := range a.infos {
			names = append(names, shortName(i.Name))
		}
		return strings.Join(names, ", ")
	}
	return "ok"
}

// call is a request that waits for its answer.
type call struct {
	request
	answered chan answer
}

// gate is the storage as one process sees it: each operation waits until whoever
// drives the process answers it.
type gate struct {
	mu      sync.Mutex
	waiting []*call
	dead    error // what every call gets from now on
}

var _ backend.Full = (*gate)(nil)

// errKilled is what a process that was killed gets from its storage. It can do nothing
// any more that anybody sees.
var errKilled = errors.New("the process was killed")

func (g *gate) ask(ctx context.Context, q request) answer {
	if err := ctx.Err(); err != nil {
		return answer{err: fmt.Errorf("%s %s: %w", q.op, q.name, err)}
	}
	g.mu.Lock()
	if g.dead != nil {
		defer g.mu.Unlock()
		return answer{err: g.dead}
	}
	c := &call{request: q, answered: make(chan answer, 1)}
	g.waiting = append(g.waiting, c)
	g.mu.Unlock()
	return <-c.answered
}

// pending returns the calls that wait, in an order that does not hang on how
// goroutines were scheduled.
func (g *gate) pending() []*call {
	g.mu.Lock()
	defer g.mu.Unlock()
	slices.SortStableFunc(g.waiting, func(a, b *call) int { return a.compare(&b.request) })
	return slices.Clone(g.waiting)
}

// reply answers a call.
func (g *gate) reply(c *call, a answer) {
	g.mu.Lock()
	g.waiting = slices.DeleteFunc(g.waiting, func(o *call) bool { return o == c })
	g.mu.Unlock()
	c.answered <- a
}

// kill ends the process: what waits and what is yet to come fails.
func (g *gate) kill() {
	g.mu.Lock()
	g.dead = errKilled
	waiting := g.waiting
	g.waiting = nil
	g.mu.Unlock()
	for _, c := range waiting {
		c.answered <- answer{err: errKilled}
	}
}

func (g *gate) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	data := make([]byte, size)
	if n, err := body.ReadAt(data, 0); int64(n) < size {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return g.ask(ctx, request{op: "put", name: name, data: data}).err
}

func (g *gate) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	a := g.ask(ctx, request{op: "open", name: name})
	return io.NopCloser(bytes.NewReader(a.data)), a.err
}

func (g *gate) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	a := g.ask(ctx, request{op: "read", name: name, off: off, size: len(p)})
	copy(p, a.data)
	return a.err
}

func (g *gate) Stat(ctx context.Context, name string) (backend.Info, error) {
	a := g.ask(ctx, request{op: "stat", name: name})
	if a.err != nil {
		return backend.Info{}, a.err
	}
	return a.infos[0], nil
}

func (g *gate) List(ctx context.Context, prefix string) iter.Seq2[backend.Info, error] {
	return func(yield func(backend.Info, error) bool) {
		a := g.ask(ctx, request{op: "list", name: prefix})
		for _, info := range a.infos {
			if !yield(info, nil) {
				return
			}
		}
		if a.err != nil {
			yield(backend.Info{}, a.err)
		}
	}
}

func (g *gate) Delete(ctx context.Context, name string) error {
	return g.ask(ctx, request{op: "delete", name: name}).err
}

func (g *gate) Swap(ctx context.Context, name string, old, new []byte) error {
	return g.ask(ctx, request{op: "swap", name: name, old: bytes.Clone(old), data: bytes.Clone(new)}).err
}

func (g *gate) String() string { return "memory" }

// Stage is no step, as nobody sees what has no name yet.
func (g *gate) Stage(ctx context.Context) (backend.Staged, error) {
	return &gateStaged{gate: g}, ctx.Err()
}

type gateStaged struct {
	gate *gate
	data []byte
}

func (s *gateStaged) Write(p []byte) (int, error) {
	s.data = append(s.data, p...)
	return len(p), nil
}

func (s *gateStaged) Commit(ctx context.Context, name string) error {
	return s.gate.ask(ctx, request{op: "put", name: name, data: s.data}).err
}

func (s *gateStaged) Abort() error { return nil }

// clock is what the storage takes for the time: who drives the processes sets it.
type clock struct{ time time.Time }

func (c *clock) now() time.Time { return c.time }
