package repo

// step is a step of the protocol between writers and prune that can be left out, so
// that tests can show that it is needed: see docs/design.md, "Writers without a
// lock". Only tests leave any out.
type step uint8

const (
	// A writer's.
	stepLease      step = iota + 1 // announce itself
	stepSee                        // read the condemned list
	stepList                       // list the packs, rather than believe segments
	stepOrder                      // list the packs after the condemned list was read, not before
	stepFenceCheck                 // take a lease's end by another for a fence
	stepRenewCheck                 // look for all packs again after a fence

	// Prune's.
	stepListLeases  // wait for the writers that may not have seen the list
	stepLeasesAfter // list these after the list was swapped in, not before
	stepRemark      // mark again after the wait
	stepLeasesFirst // read leases before snapshots
	stepNeededFull  // let only a whole chunk be a delta's base
	stepVouched     // believe the admin only
	stepFinalSwap   // compare when the list is made final

	// Of both.
	stepKeepEnds // let the ends of leases stay that keep others from committing
)

// does reports whether a step is done.
func (r *Repository) does(s step) bool { return r.omit != s }
