package tune

import (
	"cmp"
	"fmt"
	"slices"
)

// A Preference is what counts more where speed and size can't both be had.
type Preference uint8

// The preferences.
const (
	Balance Preference = iota // the smallest of those at least half as fast as the fastest
	Speed                     // the smallest of those at least nine tenths as fast
	Size                      // the smallest
)

var preferences = []struct {
	name  string
	floor float64 // of the greatest speed
}{Balance: {"balance", 0.5}, Speed: {"speed", 0.9}, Size: {"size", 0}}

func (p Preference) String() string { return preferences[p].name }

// ParsePreference returns the preference of that name.
func ParsePreference(name string) (Preference, error) {
	for i, p := range preferences {
		if p.name == name {
			return Preference(i), nil
		}
	}
	return 0, fmt.Errorf("preference %q: want balance, speed or size", name)
}

// sameSize is what sizes may differ by, as a part of them, and still count as the same:
// other cuts of the same data differ by as much without a reason.
const sameSize = 0.01

// repeated is the deduplication from which data hold several versions of the same. Where
// they do not, larger chunks only save the index: what smaller ones are good for, that little
// is new after a little was changed, does not show.
const repeated = 1.1

// best returns the setting to recommend. Among those of about the same size that is the
// default, or else the fastest.
func (p Preference) best(results []Result) Result {
	offered := slices.DeleteFunc(slices.Clone(results), func(r Result) bool { return !r.Offered() })
	sound := slices.DeleteFunc(slices.Clone(offered), func(r Result) bool {
		return r.ChunkSize > Default().ChunkSize && r.Dedup() < repeated
	})
	if len(sound) > 0 {
		offered = sound
	}
	fastest := slices.MaxFunc(offered, func(a, b Result) int { return cmp.Compare(a.Speed(), b.Speed()) })
	quick := slices.DeleteFunc(offered, func(r Result) bool { return r.Speed() < preferences[p].floor*fastest.Speed() })
	smallest := slices.MinFunc(quick, func(a, b Result) int { return cmp.Compare(a.Stored, b.Stored) })
	same := slices.DeleteFunc(quick, func(r Result) bool { return float64(r.Stored) > (1+sameSize)*float64(smallest.Stored) })
	if i := slices.IndexFunc(same, func(r Result) bool { return r.Setting == Default() }); i >= 0 {
		return same[i]
	}
	return slices.MaxFunc(same, func(a, b Result) int { return cmp.Compare(a.Speed(), b.Speed()) })
}

// combine puts the best value of each axis together.
func combine(results []Result, a Axes, p Preference) Setting {
	base := a.base()
	along := func(differs func(Setting) bool) Setting {
		return p.best(slices.DeleteFunc(slices.Clone(results), func(r Result) bool {
			return r.Setting != base && !differs(r.Setting)
		})).Setting
	}
	// Of a base that is not offered nothing follows.
	if !base.Offered() {
		return base
	}
	return Setting{
		Chunker:     along(func(s Setting) bool { return s.Chunker != base.Chunker }).Chunker,
		ChunkSize:   along(func(s Setting) bool { return s.ChunkSize != base.ChunkSize }).ChunkSize,
		Compression: along(func(s Setting) bool { return s.Compression != base.Compression }).Compression,
		Deltas:      along(func(s Setting) bool { return s.Deltas != base.Deltas }).Deltas,
	}
}
