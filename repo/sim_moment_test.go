package repo_test

import (
	"slices"
	"strings"
)

// moment is a process after a history of answers.
type moment struct {
	number  int
	actor   int
	parent  *moment
	request int // that was answered, of the parent's
	answer  answer
	next    map[uint64]*moment

	asks []request
	over bool
	said []string
}

// arrive notes where a process is.
func (e *explorer) arrive(m *moment, l *live, calls []*call) {
	e.moments++
	m.number = e.moments
	m.next = make(map[uint64]*moment)
	for _, c := range calls {
		m.asks = append(m.asks, c.request)
		kind, _, _ := strings.Cut(c.name, "/")
		takes := c.op == "delete" && kind != "leases" && !e.actors[m.actor].prunes
		if takes || c.op != "put" && c.writes() && (kind == "config" || kind == "keys" || kind == "tombstones") {
			e.Fatalf("%s asks for %v: then reading that is no matter of one process alone", e.actors[m.actor].name, &c.request)
		}
	}
	l.mu.Lock()
	m.over, m.said = l.over, slices.Clone(l.said)
	l.mu.Unlock()
	if m.over || len(m.asks) == 0 {
		l.stop()
		return
	}
	e.running[m] = l
	e.recent = append(e.recent, m)
	for len(e.recent) > maxRunning {
		if l := e.running[e.recent[0]]; l != nil {
			l.stop()
			delete(e.running, e.recent[0])
		}
		e.recent = e.recent[1:]
	}
}

// after returns the moment after an answer.
func (e *explorer) after(m *moment, request int, a answer) *moment {
	key := a.sum() ^ uint64(request)<<56
	if next := m.next[key]; next != nil {
		return next
	}
	l := e.running[m]
	if l == nil {
		l = e.again(m)
	}
	delete(e.running, m)
	next := &moment{actor: m.actor, parent: m, request: request, answer: a}
	e.arrive(next, l, l.reply(e.T, l.gate.pending()[request], a))
	m.next[key] = next
	return next
}

// again runs a process until it is where it was at a moment.
func (e *explorer) again(m *moment) *live {
	var path []*moment
	for n := m; n.parent != nil; n = n.parent {
		path = append(path, n)
	}
	l := start(e.T, e.actors[m.actor], true)
	calls := <-l.out
	e.same(e.roots[m.actor], calls)
	for _, n := range slices.Backward(path) {
		calls = l.reply(e.T, calls[n.request], n.answer)
		e.same(n, calls)
	}
	return l
}

// same fails the test if a process, after the same answers, asks for something else.
func (e *explorer) same(m *moment, calls []*call) {
	if !slices.EqualFunc(m.asks, calls, func(q request, c *call) bool { return q.equal(&c.request) }) {
		e.Fatalf("%s does not always do the same: asked for %v, now for %v", e.actors[m.actor].name, m.asks, calls)
	}
}
