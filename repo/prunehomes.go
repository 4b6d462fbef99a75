package repo

import (
	"cmp"
	"errors"
	"slices"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
)

// Which of its homes a chunk lives in, so that the others may go:
//
//  1. A whole one in a pack that the admin vouches for is enough, if there is one.
//  2. If nobody but the admin speaks of it, a delta does, and each of its bases then
//     needs a whole home. A delta of which one has none is no home.
//  3. Else all homes stay: a key that was stolen could name packs that have
//     something else, to make prune delete the true ones.
//
// Packs that are not condemned come first, and then those that are the fullest.

// markBases finds out which chunks are stored whole, and marks the bases of deltas that
// may be needed.
func (p *pruner) markBases() error {
	p.marks.clear(whole | sure)
	err := p.eachChunk(func(id chunk.ID, homes []home) error {
		for _, h := range homes {
			if h.isWhole() {
				p.marks.set(id, whole)
			}
			if p.isEnough(h) {
				p.marks.set(id, sure)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.eachChunk(func(id chunk.ID, homes []home) error {
		if p.marks.of(id)&(wanted|wantedWhole) == 0 || slices.ContainsFunc(homes, p.isEnough) {
			return nil
		}
		for _, h := range homes {
			if !h.isWhole() && p.isHome(h) {
				for _, base := range p.hangsOn(&h.entry) {
					p.marks.set(base, wantedWhole)
				}
			}
		}
		return nil
	})
}

// isHome reports whether a home is one: a delta is not, if its base is nowhere whole.
// Either the base was lost, or nobody needed it; or it is a lie of who is not to be trusted.
func (p *pruner) isHome(h home) bool { return p.basesAre(&h.entry, whole) }

// basesAre reports whether something is known of all bases of an entry; a whole one has none.
func (p *pruner) basesAre(e *pack.Entry, what need) bool {
	for _, base := range p.hangsOn(e) {
		if !p.marks.isSo(base, what) {
			return false
		}
	}
	return true
}

// isSure reports whether the admin's word is enough that a chunk can be had from a home.
func (p *pruner) isSure(h home) bool {
	return p.isTrusted(h) && (p.basesAre(&h.entry, sure) || !p.does(stepSureBase))
}

// isTrusted reports whether the word of who speaks of a home is enough to give up others.
func (p *pruner) isTrusted(h home) bool {
	return (h.in.vouched || h.in.assumed || !p.does(stepVouched)) && !h.in.damaged
}

// isEnough reports whether a home needs no other.
func (p *pruner) isEnough(h home) bool { return h.isWhole() && p.isTrusted(h) }

func (p *pruner) isFree(h home) bool { return !p.condemned[h.in.id] }

// settle gives each needed chunk its homes, and counts for each pack what lives there.
func (p *pruner) settle() error {
	for _, f := range p.packs {
		f.sole, f.live = 0, 0
	}
	if p.deltas {
		if err := p.markBases(); err != nil {
			return err
		}
	}
	p.marks.clear(contested)
	err := p.eachWanted(wanted|wantedWhole, func(id chunk.ID, homes []home, one bool) {
		if one && len(homes) > 1 {
			p.marks.set(id, contested)
			return
		}
		for _, h := range homes {
			h.in.sole += int64(h.entry.Stored)
		}
	})
	if err != nil {
		return err
	}
	for _, f := range p.packs {
		f.live = f.sole
	}
	if p.marks.count(contested) == 0 {
		return nil
	}
	// The order of packs is the same for all chunks, so that of two packs with the same
	// contents one gets them all.
	return p.eachWanted(contested, func(_ chunk.ID, homes []home, one bool) {
		if one {
			best := slices.MaxFunc(homes, func(a, b home) int { return rankPacks(a.in, b.in) })
			homes = []home{best}
		}
		for _, h := range homes {
			h.in.live += int64(h.entry.Stored)
		}
	})
}

// errVanished: other programs on this machine share its index. One that listed the segments
// long ago takes from it what that did not show.
var errVanished = errors.New("prune stops: what snapshots need vanished from this machine's index while it was read: prune again, and if that does not help, run cairn check")

// eachWanted calls fn for each chunk of which one of the needs is marked, with the homes that
// it can have, and whether one of them is enough. The error is errVanished if there are
// chunks that the index does not have any more.
func (p *pruner) eachWanted(of need, fn func(id chunk.ID, homes []home, one bool)) error {
	for _, f := range p.packs {
		f.all = 0
	}
	met, last := 0, uint64(0)
	err := p.eachChunk(func(id chunk.ID, homes []home) error {
		for _, h := range homes {
			h.in.all += int64(h.entry.Stored)
		}
		want := p.marks.of(id)
		if want&of == 0 {
			return nil
		}
		if x := prefix(id); met == 0 || x != last {
			met, last = met+1, x
		}
		homes, one := p.candidates(homes, want)
		if len(homes) == 0 {
			return stopped(damaged("chunk "+id.Short(), errors.New("it is stored only as what differs from others, which no pack has whole: run cairn check, which names the snapshots; forget those")))
		}
		fn(id, homes, one)
		return nil
	})
	if err == nil && met < p.marks.count(of) {
		err = errVanished
	}
	return err
}

// candidates returns the homes that can serve, and whether one of them is enough, as
// above. It overwrites homes.
func (p *pruner) candidates(homes []home, want need) (some []home, one bool) {
	if n := moveUp(homes, p.isEnough); n > 0 {
		homes = homes[:n]
	} else if p.deltas {
		is := p.isHome
		if want&wantedWhole != 0 {
			is = home.isWhole
		}
		homes = homes[:moveUp(homes, is)]
	}
	if slices.ContainsFunc(homes, func(h home) bool { return !p.isTrusted(h) }) {
		return homes, false
	}
	if p.deltas {
		n := moveUp(homes, p.isSure)
		if n == 0 {
			return homes, false
		}
		homes = homes[:n]
	}
	if free := moveUp(homes, p.isFree); free > 0 {
		homes = homes[:free]
	}
	return homes, true
}

// moveUp moves the homes that are so to the front, and returns how many they are.
func moveUp(homes []home, so func(home) bool) (n int) {
	for i := range homes {
		if so(homes[i]) {
			homes[n], homes[i] = homes[i], homes[n]
			n++
		}
	}
	return n
}

// rankPacks orders packs: the higher ones keep what both have.
func rankPacks(a, b *prunedPack) int {
	return cmp.Or(boolRank(a.stays())-boolRank(b.stays()), cmp.Compare(a.sole, b.sole), a.id.Compare(b.id))
}

// stays reports whether the pack stays whatever lives in it.
func (f *prunedPack) stays() bool { return f.recent || f.cold }

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}
