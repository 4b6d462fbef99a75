package index

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cairn-backup/cairn/seal"
)

var (
	// ErrLost: the local file was damaged, removed or reset since the caller last
	// asked Absorbed. It is usable again, but does not know what the caller thinks
	// that it knows: call Absorbed, and absorb what is missing.
	ErrLost = errors.New("local index was lost and must be filled again")
	// ErrBusy: other programs kept the local file locked for too long.
	ErrBusy = errors.New("local index is in use by another program; wait until that is done, or use another cache directory")
	// ErrClosed: the Local was closed.
	ErrClosed = errors.New("local index is closed")

	// errDamaged never leaves the package: the file is emptied, and the caller
	// gets ErrLost.
	errDamaged = errors.New("local index is damaged")
)

// Options are for OpenLocal. The zero value is good.
type Options struct {
	// Random gives the 16 bytes that tell one file from the next; nil means
	// crypto/rand.Reader.
	Random io.Reader
	// Wait bounds how long a call waits for other programs that use the file; 0
	// means 30 seconds.
	Wait time.Duration
}

const (
	defaultWait = 30 * time.Second
	// readingTime is how long the file stays open for look-ups before it is asked whether
	// somebody wants to write, who waits for so long at most, plus one look-up.
	readingTime = 250 * time.Millisecond
	maxTries    = 3
	fileMode    = 0o600
	dirMode     = 0o700
)

// Local is a file that has absorbed index segments. It is safe for concurrent
// use, also by several processes on one file: each opens the file for fractions
// of a second, many of them for reading or one for writing, and a waiting writer
// goes before new readers.
//
// Absorb, Merge and Retain change the file in transactions. A process that is killed, or
// a machine that stops, leaves the file as some transaction left it.
type Local struct {
	path       string
	repository seal.RepositoryID
	random     io.Reader
	wait       time.Duration

	writing sync.Mutex // one Absorb, Merge or Retain at a time in this process
	opening sync.Mutex // one opening for reading at a time

	mu      sync.Mutex // guards what follows
	handle  *handle    // for look-ups; nil if none is open
	checked checkedFile
	known   known
	closed  bool
}

// known is what the user of a Local relies on.
type known struct {
	incarnation [16]byte
	commit      uint64
}

// OpenLocal opens the local index at path, and makes it if there is none. A file
// that is damaged, of another repository or of another version of this program is
// replaced by an empty one, so Absorbed is what to ask next.
func OpenLocal(path string, repository seal.RepositoryID, o Options) (*Local, error) {
	l := &Local{path: path, repository: repository, random: o.Random, wait: o.Wait}
	if l.random == nil {
		l.random = rand.Reader
	}
	if l.wait == 0 {
		l.wait = defaultWait
	}
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return nil, fmt.Errorf("make directory of local index: %w", err)
	}
	if _, err := l.Absorbed(); err != nil {
		return nil, err
	}
	return l, nil
}

// Close closes the file if it is open. Calls that run are not disturbed; later
// ones return ErrClosed. Closing again does nothing.
func (l *Local) Close() error {
	l.mu.Lock()
	l.closed = true
	h := l.handle
	l.mu.Unlock()
	if h != nil {
		l.expire(h)
	}
	return nil
}

// Has reports whether a segment is absorbed, or superseded by one that is.
func (l *Local) Has(id SegmentID) (bool, error) {
	found := false
	err := l.view(func(r *reader) (err error) {
		_, found, err = r.name(id)
		return err
	})
	return found, err
}

// Superseded reports whether an absorbed segment supersedes a segment: what that
// says no longer counts, whether it is there and sound or not.
func (l *Local) Superseded(id SegmentID) (bool, error) {
	superseded := false
	err := l.view(func(r *reader) error {
		n, _, err := r.name(id)
		superseded = n.superseders > 0
		return err
	})
	return superseded, err
}

// Absorbed returns all segments for which Has is true. From now on the caller
// relies on them: should they get lost, calls return ErrLost until Absorbed is
// called again. Absorbed itself returns ErrLost only if a new file is damaged too.
func (l *Local) Absorbed() (map[SegmentID]bool, error) {
	for tries := 1; ; tries++ {
		ids, now, err := l.names()
		if errors.Is(err, ErrLost) && tries < maxTries {
			continue // it is a new file now
		}
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		l.known = now
		l.mu.Unlock()
		return ids, nil
	}
}

func (l *Local) names() (ids map[SegmentID]bool, at known, err error) {
	err = l.viewAny(func(r *reader) error {
		at = r.current.known()
		ids = make(map[SegmentID]bool, r.current.names)
		return r.verifyNames(r.current, func(id SegmentID) { ids[id] = true })
	})
	return ids, at, err
}

// Stats says how much a local index holds.
type Stats struct {
	Segments int64 // absorbed, not counting superseded ones
	Packs    int64 // counted once for each segment that names them
	Chunks   int64 // entries: a chunk in two packs counts twice
	Dead     int64 // entries of dropped segments that still take room
	Runs     int   // sorted runs; a look-up reads a block in each
	Bytes    int64 // size of the file
}

// Stats counts. It reads no entries.
func (l *Local) Stats() (Stats, error) {
	var s Stats
	err := l.view(func(r *reader) error {
		st := r.current
		s = Stats{Dead: int64(st.dead), Chunks: int64(st.records() - st.dead), Runs: len(st.runs)}
		return r.eachSegment(func(_ uint32, info segmentInfo) error {
			if info.alive {
				s.Segments++
				s.Packs += int64(info.packs)
			}
			return nil
		})
	})
	if err != nil {
		return Stats{}, err
	}
	info, err := os.Stat(l.path)
	if err != nil {
		return Stats{}, fmt.Errorf("local index: %w", err)
	}
	s.Bytes = info.Size()
	return s, nil
}

// check returns ErrLost if st is not a later state of what the user knows.
func (l *Local) check(st *state) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if st.incarnation != l.known.incarnation || st.commit < l.known.commit {
		return ErrLost
	}
	l.known.commit = st.commit
	return nil
}

func (s *state) known() known { return known{incarnation: s.incarnation, commit: s.commit} }

// patience is a context that ends when a call has waited for long enough.
func (l *Local) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, l.wait, ErrBusy)
}
