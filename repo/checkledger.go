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

// isHoused reports whether a pack has the chunk, and others all bases if it is a difference.
// If not, it returns the bases that are lacking, each once.
func (a *account) isHoused(homeless map[chunk.ID]bool) (ok bool, lacking []chunk.ID) {
	if a.whole {
		return true, nil
	}
	for d := a.deltas; len(d) > 0; d = d[pack.BasesSize:] {
		bases, was := pack.ParseBases(d), len(lacking)
		for _, id := range bases.IDs() {
			if homeless[id] {
				lacking = append(lacking, id)
			}
		}
		if len(lacking) == was {
			return true, nil
		}
	}
	slices.SortFunc(lacking, compareChunks)
	return false, slices.Compact(lacking)
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

// balance is what a ledger comes to.
type balance struct {
	needed int // chunks
	// absent are the needed chunks that no pack has, with the bases that are lacking where
	// packs have differences.
	absent map[chunk.ID][]chunk.ID
	// homeless are the bases that no pack has whole. What hangs on them counts as nothing.
	homeless map[chunk.ID]bool
}

// balance draws it up. isLost reports whether a chunk can't be had, whatever packs say.
func (l *ledger) balance(isLost func(chunk.ID) bool) (b balance, err error) {
	b.absent, b.homeless = make(map[chunk.ID][]chunk.ID), make(map[chunk.ID]bool)
	err = l.accounts(func(a *account) {
		if a.base && (!a.whole || isLost(a.id)) {
			b.homeless[a.id] = true
		}
		if a.needed {
			b.needed++
			if ok, _ := a.isHoused(nil); !ok {
				b.absent[a.id] = nil
			}
		}
	})
	if err != nil || len(b.homeless) == 0 {
		return b, err
	}
	err = l.accounts(func(a *account) {
		if ok, lacking := a.isHoused(b.homeless); a.needed && !ok {
			b.absent[a.id] = lacking
		}
	})
	return b, err
}

// close frees what the ledger has on disk.
func (l *ledger) close() error { return l.records.Close() }
