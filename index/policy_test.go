package index

import (
	"math/rand/v2"
	"testing"
)

// policyWorld absorbs and merges numbers instead of records.
type policyWorld struct {
	st              state
	absorbed, moved uint64
	mostRuns        int
}

func (w *policyWorld) absorb(n int) {
	for left := n; left > 0; {
		step := min(left, stepRecords)
		left -= step
		w.absorbed += uint64(step)
		if left == 0 {
			u := w.st.begin(settled, uint64(n))
			u.records = uint64(n)
		}
		w.merge(w.st.mergeWork(step))
		w.mostRuns = max(w.mostRuns, len(w.st.runs))
	}
}

// merge does what mergeSome does.
func (w *policyWorld) merge(work int) {
	for work > 0 {
		if inputs := w.st.due(); len(inputs) > 0 {
			w.st.beginMerge(inputs)
		}
		out, inputs, found := w.st.merging()
		if !found {
			return
		}
		for _, n := range inputs {
			u := w.st.run(n)
			some := min(u.records, uint64(work))
			u.records -= some
			w.st.run(out).records += some
			w.moved += some
			if work -= int(some); u.records > 0 {
				break
			}
			w.st.drop(n)
		}
		if _, left, _ := w.st.merging(); len(left) == 0 {
			w.st.run(out).role = settled
		} else if w.st.run(left[0]).into != out {
			w.st.run(out).role = settled
		}
	}
}

// However segments come, there are few runs and each record is moved seldom, if Merge is called
// where much was absorbed.
func TestMergePolicy(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for name, c := range map[string]struct {
		total  uint64
		next   func() int
		most   int // runs at any time
		moves  float64
		merged int // runs, if Merge is called in the end
	}{
		"one each":           {50e3, func() int { return 1 }, 6, leastMerged, 0},
		"a thousand each":    {20e6, func() int { return 1000 }, 24, 12, 0},
		"8,000 each":         {50e6, func() int { return 8000 }, 40, 9, 0},
		"much at once":       {50e6, func() int { return 1 << 18 }, 200, 1, 8},
		"a lot at once":      {50e6, func() int { return 1 << 22 }, 200, 1, 8},
		"64,000 each":        {50e6, func() int { return 64_000 }, 600, 3, 8},
		"of all sizes":       {20e6, func() int { return 1 << rng.IntN(13) }, 40, 12, 0},
		"of all larger ones": {50e6, func() int { return 1 << rng.IntN(20) }, 260, 4, 8},
	} {
		var w policyWorld
		for w.absorbed < c.total {
			w.absorb(c.next())
		}
		if w.mostRuns > c.most {
			t.Errorf("%s: %d runs, want %d at most", name, w.mostRuns, c.most)
		}
		if c.merged > 0 {
			w.merge(1 << 62)
			if n := len(w.st.runs); n > c.merged {
				t.Errorf("%s: %d runs after Merge, want %d at most", name, n, c.merged)
			}
		}
		moves := float64(w.moved) / float64(w.absorbed)
		t.Logf("%s: %d runs at most, %d in the end, each record moved %.1f times", name, w.mostRuns, len(w.st.runs), moves)
		if moves > c.moves {
			t.Errorf("%s: each record was moved %.1f times, want %.1f at most", name, moves, c.moves)
		}
	}
}
