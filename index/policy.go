package index

import (
	"cmp"
	"slices"
)

// Which runs are merged, and when. A look-up asks the filter of each run, so there should be
// few; a merge moves records, so each should be moved seldom; and one absorb must not wait for
// a merge of everything.
//
// So runs have levels by their size, each mergeFan times that of the level below (the
// log-structured merge of O'Neil et al., 1996, with tiers). When a level has mergeFan runs, they
// become one of the next, together with all smaller ones: a record is moved once a level, of
// which 50 million records have seven. The lowest level has one run: what snapshots leave, a
// thousand records or so, is merged with it at once.
//
// A merge goes on in the transactions of later absorbs. Each moves up to mergeRatio records
// for one that it absorbs, which is more than the levels need, so that merges end long
// before the next of their level is due (TestMergePolicy), and no more than a transaction may.
// Of several merges under way the one with the least left to do goes on.
//
// Who absorbs much at once does not merge meanwhile, as one merge of all that has piled up moves
// each record once. It calls Merge in the end.
const (
	mergeFan    = 4
	mergeRatio  = 16
	leastLevel  = 8192 // records; runs that are smaller are of level 0
	leastMerged = 2 * leastLevel
	bulk        = leastLevel // records; so many in one transaction are much
	bulkRuns    = 256        // so many may pile up
)

// mergeWork returns how many records are to be merged beside n that are absorbed.
func (st *state) mergeWork(n int) int {
	if n >= bulk && len(st.runs) < bulkRuns {
		return 0
	}
	return min(max(mergeRatio*n, leastMerged), stepRecords)
}

// level returns that of a run.
func (u *run) level() int {
	l := 0
	for n := u.records; n >= leastLevel; n /= mergeFan {
		l++
	}
	return l
}

// due returns the settled runs that should be merged now, or none: the highest level that
// is full, with all below it; and everything, to take the dead records out, once they are
// more than a quarter and what is being merged is done.
func (st *state) due() []uint32 {
	settledRuns := make([]run, 0, len(st.runs))
	var count []int
	merging := false
	for _, r := range st.runs {
		if r.role != settled {
			merging = merging || r.role == output
			continue
		}
		settledRuns = append(settledRuns, r)
		for len(count) <= r.level() {
			count = append(count, 0)
		}
		count[r.level()]++
	}
	top := -1
	if st.tooDead() && !merging {
		top = len(count)
	} else {
		for l, n := range count {
			if n >= mergeFan || l == 0 && n > 1 {
				top = l
			}
		}
	}
	var chosen []uint32
	for _, r := range settledRuns {
		if r.level() <= top {
			chosen = append(chosen, r.number)
		}
	}
	return chosen
}

// tooDead reports whether so many records are dead that they should be taken out.
func (st *state) tooDead() bool { return st.dead*4 > st.records() }

// beginMerge makes the runs the inputs of a merge.
func (st *state) beginMerge(inputs []uint32) {
	records := uint64(0)
	for _, n := range inputs {
		records += st.run(n).records
	}
	out := st.begin(output, records).number
	for _, n := range inputs {
		u := st.run(n)
		u.role, u.into = input, out
	}
}

// merging returns the output of the merge under way that has the least left to do, and its
// inputs.
func (st *state) merging() (out uint32, inputs []uint32, found bool) {
	left := make(map[uint32]uint64)
	for _, r := range st.runs {
		if r.role == input {
			left[r.into] += r.records
		}
	}
	for n, records := range left {
		if !found || cmp.Or(cmp.Compare(records, left[out]), cmp.Compare(n, out)) < 0 {
			out, found = n, true
		}
	}
	for _, r := range st.runs {
		if r.role == input && r.into == out {
			inputs = append(inputs, r.number)
		}
	}
	slices.Sort(inputs)
	return out, inputs, found
}
