package termui

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ProgressOptions say where and how a Progress shows itself. See
// DetectProgress.
type ProgressOptions struct {
	// Out is stderr.
	Out io.Writer
	// Terminal makes the status one line that is drawn over and over. Otherwise
	// each update is a line of its own.
	Terminal bool
	// Width returns the columns of the terminal, 0 if it is not known. nil is
	// the same as 0.
	Width func() int
	// Quiet shows nothing but warnings.
	Quiet bool
	// Interval is the time between two updates of the status. 0 shows none.
	Interval time.Duration
	// NewTicker returns a channel that ticks at the interval, and a function
	// that ends that. nil is time.NewTicker.
	NewTicker func(interval time.Duration) (ticks <-chan time.Time, stop func())
}

const (
	terminalInterval = 100 * time.Millisecond
	plainInterval    = time.Minute
	maxFPS           = 60
	defaultWidth     = 80
)

// DetectProgress returns how to show progress on stderr. A status line that is
// redrawn needs a terminal that can do so (TERM is not "dumb") and people who
// look at it (CI is not set); otherwise there is a plain line a minute.
// CAIRN_PROGRESS_FPS sets the number of updates a second for both, at most 60;
// fractions are allowed, and 0 is the same as off. off (--no-progress) and quiet
// (-q) leave no status at all.
func DetectProgress(stderr *os.File, getenv func(string) string, quiet, off bool) (ProgressOptions, error) {
	o := ProgressOptions{
		Out:      stderr,
		Terminal: IsTerminal(stderr) && getenv("TERM") != "dumb" && !isSet(getenv("CI")),
		Width:    func() int { return Width(stderr) },
		Quiet:    quiet,
		Interval: plainInterval,
	}
	if o.Terminal {
		o.Interval = terminalInterval
	}
	if s := getenv("CAIRN_PROGRESS_FPS"); s != "" {
		fps, err := strconv.ParseFloat(s, 64)
		if err != nil || !(fps >= 0) || math.IsInf(fps, 0) {
			return ProgressOptions{}, fmt.Errorf("CAIRN_PROGRESS_FPS=%q: not a number of updates a second; set it to 5 or 0.1, or to 0 for none", s)
		}
		o.Interval = fpsInterval(fps)
	}
	if off || quiet {
		o.Interval = 0
	}
	return o, nil
}

// isSet judges CI as the services that set it mean it.
func isSet(ci string) bool { return ci != "" && ci != "0" && ci != "false" }

func fpsInterval(fps float64) time.Duration {
	if fps == 0 {
		return 0
	}
	// Less than once in a day would overflow in the end.
	return time.Duration(float64(time.Second) / min(max(fps, 1.0/86400), maxFPS))
}

// Progress shows what goes on: a status that changes, and messages that stay.
// Its methods may be called from many goroutines. Errors of writing are
// ignored: there is no place left to report them, and the work goes on.
type Progress struct {
	opts ProgressOptions
	stop func() // ends the ticker and its goroutine, once

	mu      sync.Mutex
	line    func() string
	status  string // on the screen now, if Terminal
	stopped bool
}

// NewProgress returns a Progress, which shows a status once Update has been
// called. The caller must call Stop.
func NewProgress(opts ProgressOptions) *Progress {
	p := &Progress{opts: opts, stop: func() {}}
	if opts.Quiet || opts.Interval <= 0 {
		return p
	}
	newTicker := opts.NewTicker
	if newTicker == nil {
		newTicker = func(d time.Duration) (<-chan time.Time, func()) {
			t := time.NewTicker(d)
			return t.C, t.Stop
		}
	}
	ticks, stopTicks := newTicker(opts.Interval)
	var (
		quit    = make(chan struct{})
		running sync.WaitGroup
	)
	running.Go(func() { p.run(ticks, quit) })
	p.stop = sync.OnceFunc(func() {
		stopTicks()
		close(quit)
		running.Wait()
	})
	return p
}

func (p *Progress) run(ticks <-chan time.Time, quit <-chan struct{}) {
	for {
		select {
		case <-ticks:
			p.tick()
		case <-quit:
			return
		}
	}
}

// Update sets where the status comes from; nil is no status. line is called at
// each tick, in another goroutine, and must be fast. It must not call methods
// of p.
func (p *Progress) Update(line func() string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line = line
	if line == nil {
		p.erase()
	}
}

func (p *Progress) tick() {
	p.mu.Lock()
	line := p.line
	p.mu.Unlock()
	if line == nil {
		return
	}
	// Not under the lock: line may wait for a lock that is held by somebody
	// who wants to print a message.
	s := Clean(line())

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || p.line == nil {
		return
	}
	if p.opts.Terminal {
		p.draw(s)
	} else {
		io.WriteString(p.opts.Out, s+"\n")
	}
}

// Println shows a message, escaped with Clean, on a line of its own that does not
// tear the status. When quiet it shows nothing.
func (p *Progress) Println(message string) {
	if !p.opts.Quiet {
		p.Warn(message)
	}
}

// Warn is Println for what must be seen even when quiet.
func (p *Progress) Warn(message string) {
	p.Aside(func() { io.WriteString(p.opts.Out, Clean(message)+"\n") })
}

// Aside runs f, which may write to the terminal, with the status out of its way.
// f must not call methods of p.
func (p *Progress) Aside(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	status := p.status
	p.erase()
	f()
	if status != "" {
		p.draw(status)
	}
}

// Stop erases the status and waits until nobody calls Update's function any
// more. Messages can be shown after it. A second Stop does nothing.
func (p *Progress) Stop() {
	p.stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.erase()
}

// draw replaces the status on the terminal with s, which is clean. It uses
// spaces to wipe what was longer, which every terminal understands.
func (p *Progress) draw(s string) {
	// In the last column some terminals go to the next line at once.
	limit := p.width() - 1
	s = truncate(s, limit)
	if s == p.status {
		return
	}
	rest := min(textColumns(p.status), limit) - textColumns(s)
	io.WriteString(p.opts.Out, "\r"+s+strings.Repeat(" ", max(rest, 0)))
	p.status = s
}

func (p *Progress) erase() {
	if p.status == "" {
		return
	}
	p.draw("")
	io.WriteString(p.opts.Out, "\r")
}

func (p *Progress) width() int {
	if p.opts.Width != nil {
		if w := p.opts.Width(); w > 0 {
			return w
		}
	}
	return defaultWidth
}
