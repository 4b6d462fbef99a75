package repo_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cairn-backup/cairn/backend/mem"
)

// replica is a copy of the storage that is taken object by object while others work on it,
// as programs do that know nothing of what they copy.
type replica struct {
	storage *mem.Mem
	kinds   []string
	todo    []string
}

func newReplica(w *randomWorld) *replica {
	r := &replica{storage: mem.New(w.clock.now)}
	r.kinds = []string{"", "keys/", "leases/", "snapshots/", "tombstones/", "index/", "data/", "meta/"}
	w.rng.Shuffle(len(r.kinds), func(i, j int) { r.kinds[i], r.kinds[j] = r.kinds[j], r.kinds[i] })
	return r
}

// step copies an object, or lists those of a kind.
func (r *replica) step(w *randomWorld) bool {
	if len(r.todo) > 0 {
		name := r.todo[0]
		r.todo = r.todo[1:]
		read := request{op: "open", name: name}
		if a := read.serve(w.storage); a.err == nil {
			put := request{op: "put", name: name, data: a.data}
			put.serve(r.storage)
		}
		return true
	}
	if len(r.kinds) == 0 {
		return false
	}
	kind := r.kinds[0]
	r.kinds = r.kinds[1:]
	if kind == "" {
		r.todo = []string{"config", "condemned"}
	} else {
		r.todo = w.names(w.storage, kind)
	}
	return true
}

// settled looks at a replica that is complete. It may lack what went while it was taken,
// and what came. But check must say so, and prune must not make it worse.
func (r *replica) settled(w *randomWorld) error {
	for r.step(w) {
	}
	before, err := w.look(r.storage)
	if err != nil {
		return err
	}
	whole := w.wholeIn(before)
	var names []string
	for _, name := range w.names(r.storage, "") {
		names = append(names, shortName(name))
	}
	w.say("the replica has %s", strings.Join(names, ", "))
	err = w.tidy(r.storage, "replica")
	w.say("the replica has %d snapshots, %d of them whole; prune: %v", len(before.committed), len(whole), err)
	after, err := w.look(r.storage)
	if err != nil {
		return err
	}
	still := w.wholeIn(after)
	for _, id := range whole {
		if !slices.Contains(still, id) {
			return fmt.Errorf("prune has made a hole in snapshot %s", id.Short())
		}
	}
	return nil
}
