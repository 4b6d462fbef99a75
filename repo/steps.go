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
	stepWholeBase                  // rely on a delta only if its bases are stored whole
	stepUseBases                   // rely on their packs as on its own

	// Prune's.
	stepListLeases  // wait for the writers that may not have seen the list
	stepLeasesAfter // list these after the list was swapped in, not before
	stepRemark      // mark again after the wait
	stepLeasesFirst // read leases before snapshots
	stepNeededFull  // let only a whole chunk be a delta's base
	stepSureBase    // let others go because of a delta only if the admin says that its bases are whole
	stepWholeHome   // copy a chunk whole where it is needed so, though it stays as a delta
	stepVouched     // believe the admin only
	stepFinalSwap   // compare when the list is made final

	// Of both.
	stepEachBase // heed all bases of a delta, not the first alone
	stepKeepEnds // let the ends of leases stay that keep others from committing
)

// does reports whether a step is done.
func (r *Repository) does(s step) bool { return r.omit != s }
