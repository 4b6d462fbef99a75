package tune

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/bench/corpus"
)

// StoragePrefix is where the objects of Storage are, apart from all that a repository has.
// Whatever is there may be deleted at any time.
const StoragePrefix = "bench/"

// leftOver is the age from which objects below StoragePrefix are what a killed run has left.
const leftOver = 24 * time.Hour

// An Operation is what calls of one kind to a storage took.
type Operation struct {
	Name        string
	Count       int
	Bytes       int64 // of contents, of all calls
	Wall        time.Duration
	Median, P95 time.Duration // of a call
}

// PerSecond is how many calls, one after the other, were done in a second.
func (o Operation) PerSecond() float64 { return float64(o.Count) / max(o.Wall.Seconds(), 1e-9) }

// Speed is the bytes a second.
func (o Operation) Speed() float64 { return float64(o.Bytes) / max(o.Wall.Seconds(), 1e-9) }

// StorageOptions say how to measure.
type StorageOptions struct {
	Count     int           // small objects, and at most so many calls of a kind
	Size      int64         // of a large object, in bytes
	Limit     time.Duration // no call of a kind begins later than that after its first
	Random    io.Reader     // for names that no other run has
	Now       func() time.Time
	Operation func(name string) // one begins; may be nil
	Result    func(Operation)   // one is done; may be nil
}

// Sizes of objects and ranges, in bytes.
const (
	smallObject = 4 << 10  // as leases and manifests
	rangeSize   = 64 << 10 // as a few chunks next to one another
	largeCount  = 4
)

// Storage measures the calls to a storage, one after the other, on objects of its own
// below StoragePrefix, which it removes in the end, also if ctx ends before; the error
// matches *LeftError if it can't. What it reads is compared with what it wrote. No key is
// needed, nor a repository.
func Storage(ctx context.Context, storage backend.Interface, o StorageOptions) (ops []Operation, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Count < 1 || o.Size < rangeSize {
		return nil, fmt.Errorf("%d objects of %d bytes: at least one is needed, and %d bytes", o.Count, o.Size, rangeSize)
	}
	var id [8]byte
	if _, err := io.ReadFull(o.Random, id[:]); err != nil {
		return nil, fmt.Errorf("read random bytes: %w", err)
	}
	r := &storageRun{StorageOptions: o, storage: storage, run: StoragePrefix + hex.EncodeToString(id[:]), made: make(map[string]bool)}
	r.small, r.large = make([]byte, smallObject), make([]byte, o.Size)
	corpus.FillRandom(r.small, 1)
	corpus.FillRandom(r.large, 2)
	if err := r.removeLeftOvers(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.cleanUp(ctx)) }()
	for _, k := range r.kinds() {
		if err := r.measure(ctx, k); err != nil {
			return r.ops, fmt.Errorf("measure %s: %w", k.name, err)
		}
	}
	return r.ops, nil
}

// storageRun is one run of Storage.
type storageRun struct {
	StorageOptions
	storage      backend.Interface
	run          string // what the names of its objects begin with
	small, large []byte
	made         map[string]bool // objects that may be there
	smalls       int             // how many small ones were put
	larges       int
	ops          []Operation
}

// kind is a kind of call. call makes the i-th, and returns the bytes it was about.
type kind struct {
	name  string
	count func() int
	call  func(ctx context.Context, i int) (int64, error)
}

func (r *storageRun) kinds() []kind {
	count := func() int { return r.Count }
	kinds := []kind{
		{"put 4 KiB", count, func(ctx context.Context, i int) (int64, error) {
			r.smalls = i + 1
			return r.put(ctx, r.name("small", i), r.small)
		}},
		{"put large", func() int { return largeCount }, func(ctx context.Context, i int) (int64, error) {
			r.larges = i + 1
			return r.put(ctx, r.name("large", i), r.large)
		}},
		{"stat", func() int { return r.smalls }, r.stat},
		{"get 4 KiB", func() int { return r.smalls }, func(ctx context.Context, i int) (int64, error) {
			return r.get(ctx, r.name("small", i), r.small)
		}},
		{"get large", func() int { return r.larges }, func(ctx context.Context, i int) (int64, error) {
			return r.get(ctx, r.name("large", i), r.large)
		}},
		{"get 64 KiB of a large one", count, r.getRange},
		{"list " + StoragePrefix, func() int { return min(r.Count, 20) }, r.list},
	}
	if s, ok := r.storage.(backend.Swapper); ok {
		kinds = append(kinds, kind{"swap", count, func(ctx context.Context, i int) (int64, error) { return r.swap(ctx, s, i) }})
	}
	return append(kinds, kind{"delete", func() int { return r.smalls }, func(ctx context.Context, i int) (int64, error) {
		return 0, r.delete(ctx, r.name("small", i))
	}})
}

func (r *storageRun) measure(ctx context.Context, k kind) error {
	if r.Operation != nil {
		r.Operation(k.name)
	}
	op := Operation{Name: k.name}
	var took []time.Duration
	start := r.Now()
	for i := range k.count() {
		if i > 0 && r.Limit > 0 && r.Now().Sub(start) > r.Limit {
			break
		}
		begun := r.Now()
		n, err := k.call(ctx, i)
		if err != nil {
			return err
		}
		took = append(took, r.Now().Sub(begun))
		op.Count++
		op.Bytes += n
	}
	op.Wall = r.Now().Sub(start)
	slices.Sort(took)
	op.Median, op.P95 = took[len(took)/2], took[(len(took)*95+99)/100-1]
	r.ops = append(r.ops, op)
	if r.Result != nil {
		r.Result(op)
	}
	return nil
}

func (r *storageRun) name(what string, i int) string { return fmt.Sprintf("%s-%s-%d", r.run, what, i) }

func (r *storageRun) put(ctx context.Context, name string, data []byte) (int64, error) {
	r.made[name] = true
	return int64(len(data)), backend.PutBytes(ctx, r.storage, name, data)
}

func (r *storageRun) stat(ctx context.Context, i int) (int64, error) {
	info, err := r.storage.Stat(ctx, r.name("small", i))
	if err == nil && info.Size != smallObject {
		err = fmt.Errorf("%s has %d bytes, and not the %d that were put", info.Name, info.Size, smallObject)
	}
	return 0, err
}

func (r *storageRun) get(ctx context.Context, name string, want []byte) (int64, error) {
	got, err := backend.ReadAll(ctx, r.storage, name, int64(len(want)))
	if err == nil && !bytes.Equal(got, want) {
		err = errOther(name)
	}
	return int64(len(got)), err
}

func (r *storageRun) getRange(ctx context.Context, i int) (int64, error) {
	// Spread as chunks are that a restore needs: no two calls next to one another.
	off := int64(i) * 7919 * rangeSize % (r.Size - rangeSize + 1)
	name := r.name("large", i%r.larges)
	p := make([]byte, rangeSize)
	err := r.storage.ReadAt(ctx, name, p, off)
	if err == nil && !bytes.Equal(p, r.large[off:off+rangeSize]) {
		err = errOther(name)
	}
	return rangeSize, err
}

func errOther(name string) error {
	return fmt.Errorf("%s has other contents than were put: do not trust this storage", name)
}

func (r *storageRun) list(ctx context.Context, _ int) (int64, error) {
	found := 0
	for info, err := range r.storage.List(ctx, StoragePrefix) {
		if err != nil {
			return 0, err
		}
		if r.made[info.Name] {
			found++
		}
	}
	if found != len(r.made) {
		return 0, fmt.Errorf("%d of %d objects are listed: do not trust this storage", found, len(r.made))
	}
	return 0, nil
}

func (r *storageRun) swap(ctx context.Context, s backend.Swapper, i int) (int64, error) {
	name := r.name("swap", 0)
	r.made[name] = true
	contents := func(i int) []byte { return append(bytes.Clone(r.small), byte(i), byte(i>>8), byte(i>>16)) }
	var old []byte
	if i > 0 {
		old = contents(i - 1)
	}
	return smallObject, s.Swap(ctx, name, old, contents(i))
}

func (r *storageRun) delete(ctx context.Context, name string) error {
	err := r.storage.Delete(ctx, name)
	if err == nil || errors.Is(err, backend.ErrNotExist) {
		delete(r.made, name)
	}
	return err
}

// cleaning is how long a run that was interrupted may take to remove its objects.
const cleaning = time.Minute

// cleanUp removes all that the run made, even if the caller gave up.
func (r *storageRun) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleaning)
	defer cancel()
	var last error
	for name := range r.made {
		if err := r.delete(ctx, name); err != nil && !errors.Is(err, backend.ErrNotExist) {
			last = err
		}
	}
	if last != nil {
		return &LeftError{Count: len(r.made), Prefix: r.run, Err: last}
	}
	return nil
}

// LeftError: objects could not be removed.
type LeftError struct {
	Count  int
	Prefix string // of their names
	Err    error  // why one of them
}

func (e *LeftError) Error() string {
	return fmt.Sprintf("%d objects %s* are left, which may be deleted at any time: %v", e.Count, e.Prefix, e.Err)
}

// Unwrap returns why.
func (e *LeftError) Unwrap() error { return e.Err }

// removeLeftOvers removes what killed runs have left.
func (r *storageRun) removeLeftOvers(ctx context.Context) error {
	var old []string
	for info, err := range r.storage.List(ctx, StoragePrefix) {
		if err != nil {
			return err
		}
		if r.Now().Sub(info.Modified) > leftOver {
			old = append(old, info.Name)
		}
	}
	for _, name := range old {
		if err := r.storage.Delete(ctx, name); err != nil && !errors.Is(err, backend.ErrNotExist) {
			return fmt.Errorf("remove what an earlier run has left: %w", err)
		}
	}
	return nil
}
