package repo

import (
	"fmt"
	"slices"
	"sync"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/extsort"
	"github.com/cairn-backup/cairn/pack"
)

// ledger is what a check learns of data chunks: which of them packs have, according to
// their own directories, and which of them snapshots need. It is sorted on disk, in some 35
// bytes for each time that something is said of a chunk, so that memory does not grow with
// the repository. First come all calls of home and need, which may be concurrent.
type ledger struct {
	mu      sync.Mutex
	records extsort.Sorter
	key     []byte
}

// What the ledger says of a chunk. A record's key is the chunk's ID and one of these, so
// that all that is said of a chunk comes in this order.
const (
	saidWhole  = iota // a pack has it
	saidDelta         // a pack has a difference to the bases that the value names
	saidBase          // something is a difference to it
	saidNeeded        // by a snapshot
)

func (l *ledger) say(id chunk.ID, what byte, value []byte) error {
	l.key = append(append(l.key[:0], id[:]...), what)
	if err := l.records.Add(l.key, value); err != nil {
		return fmt.Errorf("note what is stored: %w", err)
	}
	return nil
}

// home notes that a pack has a data chunk.
func (l *ledger) home(e pack.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Encoding != pack.Delta {
		return l.say(e.ID, saidWhole, nil)
	}
	for _, base := range e.Bases.IDs() {
		if err := l.say(base, saidBase, nil); err != nil {
			return err
		}
	}
	return l.say(e.ID, saidDelta, e.Bases.Append(nil))
}

// need notes that a snapshot needs a data chunk.
func (l *ledger) need(id chunk.ID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.say(id, saidNeeded, nil)
}

// account is all that is said of one chunk.
type account struct {
	id                  chunk.ID
	whole, base, needed bool
	deltas              []byte // the bases of each
}

// isHoused reports whether a pack has the chunk, and its bases too if it is a difference.
func (a *account) isHoused(homeless map[chunk.ID]bool) bool {
	if a.whole {
		return true
	}
	for d := a.deltas; len(d) > 0; d = d[pack.BasesSize:] {
		bases := pack.ParseBases(d)
		if !slices.ContainsFunc(bases.IDs(), func(id chunk.ID) bool { return homeless[id] }) {
			return true
		}
	}
	return false
}

// accounts calls fn for each chunk in turn, in the order of IDs. It keeps nothing of an account.
func (l *ledger) accounts(fn func(*account)) error {
	var a account
	for r, err := range l.records.All() {
		if err != nil {
			return fmt.Errorf("read what was noted: %w", err)
		}
		id := chunk.ID(r.Key[:len(a.id)])
		if id != a.id {
			if !a.id.IsZero() {
				fn(&a)
			}
			a = account{id: id, deltas: a.deltas[:0]}
		}
		switch r.Key[len(a.id)] {
		case saidWhole:
			a.whole = true
		case saidDelta:
			a.deltas = append(a.deltas, r.Value...)
		case saidBase:
			a.base = true
		case saidNeeded:
			a.needed = true
		}
	}
	if !a.id.IsZero() {
		fn(&a)
	}
	return nil
}

// balance returns how many chunks are needed, and which of them no pack has. The differences
// to a chunk that no pack has whole count as nothing.
func (l *ledger) balance() (needed int, absent map[chunk.ID]bool, err error) {
	absent, homeless := make(map[chunk.ID]bool), make(map[chunk.ID]bool)
	err = l.accounts(func(a *account) {
		if a.base && !a.whole {
			homeless[a.id] = true
		}
		if a.needed {
			needed++
			if !a.isHoused(nil) {
				absent[a.id] = true
			}
		}
	})
	if err != nil || len(homeless) == 0 {
		return needed, absent, err
	}
	err = l.accounts(func(a *account) {
		if a.needed && !a.isHoused(homeless) {
			absent[a.id] = true
		}
	})
	return needed, absent, err
}

// close frees what the ledger has on disk.
func (l *ledger) close() error { return l.records.Close() }
