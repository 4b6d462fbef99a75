// Package crashfs is a file system in memory that can lose power, for tests of what
// a storage must survive. It promises what POSIX does and no more: a file's contents
// and a directory's entries survive if they were synced, each by itself; of
// everything later any part may survive, in any order.
package crashfs

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Disk is the file system. It keeps, beside what a program sees, what is certain to
// survive: the contents that a file had at its last sync, the entries that a
// directory had at its own. After a loss of power (After) everything else is there
// or not, each piece by itself.
//
// Programs use it through processes (Start), which can be killed without loss of
// power. Every call that may change the disk is an operation. Processes may run
// concurrently.
type Disk struct {
	// Before, if set, is called before each operation, with the disk locked: it
	// may call After and Ops, and no process's methods.
	Before func()
	// Ignore, if set, says which syncs do nothing, to prove that each is needed.
	Ignore func(Sync) bool
	// Fail, if set, says which syncs fail, and how; what they were for is not
	// synced then. It is called with the disk locked.
	Fail func(Sync) error
	// Now, if set, is the clock; otherwise each operation takes a second.
	Now func() time.Time

	mu   sync.Mutex
	root *node
	ops  int
}

// Sync is a sync as Disk.Ignore sees it.
type Sync struct {
	Path string
	Dir  bool
	// Foreign: this process has changed nothing in the directory since it last
	// synced it, so that the sync can only be for what others did.
	Foreign bool
}

// New returns an empty disk.
func New() *Disk { return &Disk{root: newDir()} }

// Ops returns how many operations there were. It is for Before, and for a disk that
// nobody uses.
func (d *Disk) Ops() int { return d.ops }

// epoch is when the first operation takes place; each takes a second. It is far ahead, as
// programs on the disk go by the real time and may not like a disk of the past.
var epoch = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)

// now returns the time; with the disk locked.
func (d *Disk) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return epoch.Add(time.Duration(d.ops) * time.Second)
}

// node is a file or a directory.
type node struct {
	dir      bool
	perm     fs.FileMode
	modified time.Time

	data   []byte // contents now
	synced []byte // contents at the last sync
	holder *handle

	entries map[string]*node   // now
	past    map[string][]*node // entries changed since the last sync: all that they were from then on, nil for none
}

func newDir() *node {
	return &node{dir: true, perm: 0o700, entries: map[string]*node{}, past: map[string][]*node{}}
}

// set changes an entry of a directory; nil removes it.
func (n *node) set(name string, to *node) {
	n.past[name] = append(n.past[name], n.entries[name])
	if to == nil {
		delete(n.entries, name)
	} else {
		n.entries[name] = to
	}
}

// After returns a disk as it may be found when the power is back, one of many
// possible, chosen by rng; nil chooses the least, which is what was synced. It is
// for Before, and for a disk that nobody uses.
func (d *Disk) After(rng *rand.Rand) *Disk {
	return &Disk{root: d.root.after(rng, map[*node]*node{}), Now: d.Now}
}

// after returns what is left of a node; seen keeps two links to one file together.
func (n *node) after(rng *rand.Rand, seen map[*node]*node) *node {
	if n == nil {
		return nil
	}
	if m, ok := seen[n]; ok {
		return m
	}
	m := &node{dir: n.dir, perm: n.perm, modified: n.modified, entries: map[string]*node{}, past: map[string][]*node{}}
	seen[n] = m
	if !n.dir {
		m.data = n.dataAfter(rng)
		m.synced = m.data
		return m
	}
	names := map[string]bool{}
	for name := range n.entries {
		names[name] = true
	}
	for name := range n.past {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		choices := append(slices.Clone(n.past[name]), n.entries[name])
		if left := choices[pick(rng, len(choices))].after(rng, seen); left != nil {
			m.entries[name] = left
		}
	}
	return m
}

// dataAfter returns what is left of a file's contents: all, what was synced, a
// part of what came later, or the full length with zeros at the end.
func (n *node) dataAfter(rng *rand.Rand) []byte {
	if len(n.synced) == len(n.data) {
		return n.data // files are only ever appended to
	}
	if rng == nil {
		return n.synced
	}
	torn := len(n.synced) + rng.IntN(len(n.data)-len(n.synced))
	switch rng.IntN(4) {
	case 0:
		return n.data
	case 1:
		return n.synced
	case 2:
		return n.data[:torn]
	default:
		return append(slices.Clone(n.data[:torn]), make([]byte, len(n.data)-torn)...)
	}
}

// pick chooses one of n, the first without rng.
func pick(rng *rand.Rand, n int) int {
	if rng == nil {
		return 0
	}
	return rng.IntN(n)
}
