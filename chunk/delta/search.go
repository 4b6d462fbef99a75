package delta

import "encoding/binary"

// What the search looks for. The numbers are in bytes, and measured: doc.go
// says on what.
const (
	// lookahead is how far behind a difference the search goes on for a match
	// that is better than the first.
	lookahead = 256
	// enough is the length of a match with which it does not.
	enough = 512
	// shortest is the length of the shortest match worth going elsewhere for.
	// Text of less than that is often as short as literals, after compression.
	shortest = 28
	// resumed is the length of the shortest match worth going on with where
	// the last copy would have come to, at most skipped bytes behind its end.
	// Such a copy takes three bytes or four.
	resumed = 8
	skipped = 32
	// price is how many literals a match may cost more than another one and
	// still be better by being longer: a copy takes about as much.
	price = 4
)

// Looking for better matches costs effort, a unit for each look into the table
// and each word compared. Each byte that is copied pays for some of it. What
// has only short matches, or as many as there are places, uses it up; then the
// first match is taken, and the time stays linear.
const (
	startingEffort = 1 << 16
	effortOfByte   = 2
	mostEffort     = 1 << 18
)

// match says that n bytes of the target at start equal those of the space at
// position at.
type match struct {
	start, at, n int
}

// search puts out copies of all that it finds in the bases, and the literals
// before the last of them.
func (e *Encoder) search() {
	for i := 0; i+anchor <= len(e.target); {
		// Anchors stand every stride bytes, so that looking at every byte
		// finds a match of stride+anchor bytes. Where there was none for long,
		// a longer stride that has no divisor in common with theirs finds
		// only longer ones, sooner.
		step := 1 + min((i-e.done)/2048*2, 14)
		m := e.best(i, step)
		if m.n == 0 {
			i += lookahead
			continue
		}
		m.n += e.space.forward(m.at+m.n, e.target[m.start+m.n:])
		e.emit(m)
		e.effort = min(e.effort+effortOfByte*m.n, mostEffort)
		i = e.done
	}
}

// best returns the best match that begins near i, of which no more than about
// enough bytes were compared, or one of no length. From done to i there is
// none.
func (e *Encoder) best(i, step int) match {
	var best match
	if i == e.done {
		best = e.resume()
		if best.n >= enough || best.n > 0 && e.effort <= 0 {
			return best
		}
	}
	last := min(i+lookahead, len(e.target)-anchor+1)
	for ; i < last; i += step {
		e.effort--
		m := e.candidate(i, best)
		switch {
		case m.n < shortest:
			continue
		case best.n == 0, m.start < best.start+price && m.start+m.n > best.start+best.n:
			// Of two matches of which the later one begins late, the first is
			// taken: the other is found again behind it.
			best = m
		}
		if best.n >= enough || e.effort <= 0 {
			break
		}
	}
	return best
}

// candidate returns the match that the table has for the anchor at i, extended
// both ways, if any, and if it is not a part of best.
func (e *Encoder) candidate(i int, best match) match {
	at, ok := e.table.lookup(e.target[i:])
	if !ok || i < best.start+best.n && i-at == best.start-best.at {
		return match{}
	}
	n := e.space.forward(at, e.target[i:min(i+enough, len(e.target))])
	if n < anchor {
		return match{}
	}
	before := e.space.backward(at, e.target[e.done:i])
	e.effort -= (before + n) / 8
	return match{i - before, at - before, before + n}
}

// resume looks for where the target goes on as the base does, a few bytes
// behind the end of the last copy.
func (e *Encoder) resume() match {
	for k := range skipped {
		i, at := e.done+k, e.end+k
		base := e.space.tail(at)
		if len(base) < resumed || len(e.target)-i < resumed {
			break
		}
		if binary.LittleEndian.Uint64(base) == binary.LittleEndian.Uint64(e.target[i:]) {
			return match{i, at, e.space.forward(at, e.target[i:min(i+enough, len(e.target))])}
		}
	}
	return match{}
}
