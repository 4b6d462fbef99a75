package faulty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/cairn-backup/cairn/backend"
)

// Injector holds rules and counts operations. Its methods may be called
// concurrently.
type Injector struct {
	rules []rule

	mu      sync.Mutex
	seen    []int // matching operations so far, for each rule
	ops     int
	sites   []string       // in the order of their first operation
	counts  map[string]int // operations of each
	crashed bool
}

// The operations, as rules call them.
const (
	opPut    = "put"
	opOpen   = "open"
	opRead   = "read"
	opReadAt = "readat"
	opStat   = "stat"
	opList   = "list"
	opYield  = "yield"
	opDelete = "delete"
	opSwap   = "swap"
	opStage  = "stage"
	opWrite  = "write"
	opCommit = "commit"
	opAny    = "*" // all but read and yield
)

var ops = []string{
	opPut, opOpen, opRead, opReadAt, opStat, opList, opYield, opDelete, opSwap, opStage, opWrite, opCommit, opAny,
}

// The kinds of faults, as rules call them.
const (
	none       = ""
	fail       = "err"
	lostAnswer = "done-but-error"
	corrupt    = "corrupt"
	truncate   = "truncate"
	hide       = "hide"
	crash      = "crash"
	doneCrash  = "done-and-crash"
)

// faultOps says which operations a kind of fault is for.
var faultOps = map[string][]string{
	fail:       ops,
	lostAnswer: {opPut, opDelete, opSwap, opCommit, opAny},
	corrupt:    {opOpen, opReadAt, opPut, opWrite},
	truncate:   {opOpen, opReadAt, opPut},
	hide:       {opYield},
	crash:      ops,
	doneCrash:  {opPut, opDelete, opSwap, opCommit, opAny},
}

// causes are what an injected error may wrap.
var causes = map[string]error{
	"EIO":        syscall.EIO,
	"ENOSPC":     syscall.ENOSPC,
	"EACCES":     syscall.EACCES,
	"EROFS":      syscall.EROFS,
	"ETIMEDOUT":  syscall.ETIMEDOUT,
	"ECONNRESET": syscall.ECONNRESET,
	"EOF":        io.ErrUnexpectedEOF,
	"notexist":   backend.ErrNotExist,
	"exist":      backend.ErrExist,
	"conflict":   backend.ErrConflict,
	"canceled":   context.Canceled,
	"deadline":   context.DeadlineExceeded,
}

// rule is one line.
type rule struct {
	op       string
	pattern  string
	from, to int // which matching operations, counted from 1
	fault    fault
}

// forever is the end of a count that has none.
const forever = math.MaxInt

// fault is what happens to an operation.
type fault struct {
	kind  string
	cause string // of fail and lostAnswer, may be empty
	n     int64  // of corrupt and truncate
}

// errNoCause stands where a rule names no cause.
var errNoCause = errors.New("no particular cause")

func (f fault) err() error {
	if f.kind == crash || f.kind == doneCrash {
		return ErrCrashed
	}
	if err, ok := causes[f.cause]; ok {
		return err
	}
	return errNoCause
}

// Parse reads rules. Text without any makes an Injector that only counts.
func Parse(text string) (*Injector, error) {
	in := &Injector{counts: make(map[string]int)}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		r, err := parseRule(line)
		if err != nil {
			return nil, fmt.Errorf("fault rule in line %d: %w", n, err)
		}
		in.rules = append(in.rules, r)
	}
	in.seen = make([]int, len(in.rules))
	return in, nil
}

func parseRule(line string) (rule, error) {
	what, then, ok := strings.Cut(line, ":")
	if !ok {
		return rule{}, fmt.Errorf("%q has no colon", line)
	}
	words := strings.Fields(what)
	if len(words) == 0 || !slices.Contains(ops, words[0]) {
		return rule{}, fmt.Errorf("%q does not begin with an operation: %s", line, strings.Join(ops, ", "))
	}
	r := rule{op: words[0], pattern: "*", from: 1, to: forever}
	words = words[1:]
	if len(words) > 0 && words[0][0] != '#' {
		if err := checkPattern(words[0]); err != nil {
			return rule{}, err
		}
		r.pattern, words = words[0], words[1:]
	}
	if len(words) > 0 && words[0][0] == '#' {
		var err error
		if r.from, r.to, err = parseCount(words[0][1:]); err != nil {
			return rule{}, err
		}
		words = words[1:]
	}
	if len(words) > 0 {
		return rule{}, fmt.Errorf("%q is neither pattern nor count", words[0])
	}
	var err error
	if r.fault, err = parseFault(strings.Fields(then)); err != nil {
		return rule{}, err
	}
	if allowed := faultOps[r.fault.kind]; !slices.Contains(allowed, r.op) {
		return rule{}, fmt.Errorf("%s can't happen to %s, only to %s", r.fault.kind, r.op, strings.Join(allowed, ", "))
	}
	return r, nil
}

// checkPattern refuses what could match no name, which would be a rule that
// silently does nothing. Stars may stand for anything.
func checkPattern(pattern string) error {
	literal := strings.ReplaceAll(pattern, "*", "")
	for _, c := range []byte(literal) {
		if c != '/' && backend.ValidName("a"+string(c)) != nil {
			return fmt.Errorf("pattern %q has what no name has: %q", pattern, c)
		}
	}
	return nil
}

// parseCount reads N, N-M or N-.
func parseCount(s string) (from, to int, err error) {
	first, last, isRange := strings.Cut(s, "-")
	number, err := parseNumber(first)
	from, to = int(number), int(number)
	if err == nil && isRange {
		to = forever
		if last != "" {
			number, err = parseNumber(last)
			to = int(number)
		}
	}
	if err != nil || from < 1 || to < from {
		return 0, 0, fmt.Errorf("count #%s is not #N, #N-M or #N-, from 1", s)
	}
	return from, to, nil
}

// parseNumber reads a decimal number of at most 48 bits, which is enough for any
// size, and fits an int where tests run.
func parseNumber(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 48)
	return int64(n), err
}

func parseFault(words []string) (fault, error) {
	if len(words) == 0 {
		return fault{}, errors.New("the fault is missing after the colon")
	}
	f := fault{kind: words[0]}
	args := words[1:]
	wrong := fmt.Errorf("%q is no fault", strings.Join(words, " "))
	if _, ok := faultOps[f.kind]; !ok {
		return fault{}, wrong
	}
	switch {
	case (f.kind == fail || f.kind == lostAnswer) && len(args) == 1:
		f.cause = args[0]
		if _, ok := causes[f.cause]; !ok {
			return fault{}, fmt.Errorf("%q is no cause of an error", f.cause)
		}
		return f, nil
	case f.kind == corrupt && len(args) == 2 && args[0] == "byte", f.kind == truncate && len(args) == 1:
		var err error
		if f.n, err = parseNumber(args[len(args)-1]); err != nil {
			return fault{}, wrong
		}
		return f, nil
	case f.kind == corrupt || len(args) > 0:
		return fault{}, wrong
	}
	return f, nil
}

// String returns the rules, one a line, in the form that Parse reads.
func (in *Injector) String() string {
	var b strings.Builder
	for _, r := range in.rules {
		b.WriteString(r.String())
		b.WriteByte('\n')
	}
	return b.String()
}

func (r rule) String() string {
	count := ""
	switch {
	case r.from == 1 && r.to == forever:
	case r.to == forever:
		count = fmt.Sprintf(" #%d-", r.from)
	case r.from == r.to:
		count = fmt.Sprintf(" #%d", r.from)
	default:
		count = fmt.Sprintf(" #%d-%d", r.from, r.to)
	}
	return fmt.Sprintf("%s %s%s: %s", r.op, r.pattern, count, r.fault)
}

func (f fault) String() string {
	switch {
	case f.kind == corrupt:
		return fmt.Sprintf("%s byte %d", f.kind, f.n)
	case f.kind == truncate:
		return fmt.Sprintf("%s %d", f.kind, f.n)
	case f.cause != "":
		return f.kind + " " + f.cause
	}
	return f.kind
}

// Ops returns how many calls to the storage there were, those that failed
// included: what "*" counts. To fail each single call of some sequential work once,
// count the calls of a run without faults, and then run with "* #k: err" for each k;
// of concurrent work, see Sites.
func (in *Injector) Ops() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.ops
}

// Crashed reports whether a crash has happened.
func (in *Injector) Crashed() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.crashed
}

// next counts an operation and returns its fault.
func (in *Injector) next(op, name string) fault {
	in.mu.Lock()
	defer in.mu.Unlock()
	if op != opRead && op != opYield {
		in.ops++
	}
	in.note(op, name)
	var hit fault
	for i, r := range in.rules {
		if !r.matches(op, name) {
			continue
		}
		in.seen[i]++
		if hit.kind == none && r.from <= in.seen[i] && in.seen[i] <= r.to {
			hit = r.fault
		}
	}
	if in.crashed {
		return fault{kind: crash}
	}
	in.crashed = hit.kind == crash || hit.kind == doneCrash
	return hit
}

// note counts an operation of a kind: those of one op below one folder.
func (in *Injector) note(op, name string) {
	site := op
	switch folder, _, below := strings.Cut(name, "/"); {
	case name == "":
	case below && op != opList:
		site += " " + folder + "/*"
	default:
		site += " " + name
	}
	if in.counts[site] == 0 {
		in.sites = append(in.sites, site)
	}
	in.counts[site]++
}

// Sites returns the operations that there were, each as the left side of a rule that
// hits it and no other, such as "put data/* #3". Operations are counted by what
// they do and in which folder, since goroutines may mix them differently in each
// run: that there are three puts below data/ is the same in each, which call of all is the
// third need not be. To fail each operation of some work once, ask a run without
// faults for its Sites, and run the work again with each of them before a fault.
func (in *Injector) Sites() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	var all []string
	for _, site := range in.sites {
		for n := range in.counts[site] {
			all = append(all, fmt.Sprintf("%s #%d", site, n+1))
		}
	}
	return all
}

func (r rule) matches(op, name string) bool {
	if r.op != op && (r.op != opAny || op == opRead || op == opYield) {
		return false
	}
	return match(r.pattern, name)
}

// match reports whether name is pattern with some bytes in place of each star.
func match(pattern, name string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return name == pattern
	}
	name, ok := strings.CutPrefix(name, first)
	if !ok {
		return false
	}
	// Each middle part may take the first place that it finds: that leaves the
	// most for those after it.
	for {
		part, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(name, part)
		}
		_, after, found := strings.Cut(name, part)
		if !found {
			return false
		}
		name, rest = after, more
	}
}
