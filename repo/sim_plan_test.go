package repo_test

import (
	"strings"
)

// leg is a part of a plan: a process goes on until it asks for something.
type leg struct {
	actor string
	op    string // "": until it is over
	name  string // how the name begins
	nth   int    // time that it asks for that in this leg, from 1; 0 is 1
}

// follow runs the processes as planned, and what is left of them in their order, and
// returns what is wrong with a state on the way.
func (e *explorer) follow(plan ...leg) error {
	s, done := e.begin()
	defer done()
	for _, a := range e.actors {
		plan = append(plan, leg{actor: a.name})
	}
	for _, l := range plan {
		i := e.number(l.actor)
		for n := max(l.nth, 1); len(s.at[i].asks) > 0; {
			q := &s.at[i].asks[0]
			if q.op == l.op && strings.HasPrefix(q.name, l.name) {
				if n--; n == 0 {
					break
				}
			}
			s = e.do(s, i, 0)
			if e.fails(e.check(s)) {
				return e.err
			}
		}
	}
	return nil
}
