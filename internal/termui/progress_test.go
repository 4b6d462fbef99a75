package termui_test

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cairn-backup/cairn/internal/termui"
)

// screen is a terminal that knows carriage return and line feed.
type screen struct {
	mu    sync.Mutex
	lines []string
	x     int
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range string(p) {
		if len(s.lines) == 0 {
			s.lines = []string{""}
		}
		line := []rune(s.lines[len(s.lines)-1])
		switch r {
		case '\r':
			s.x = 0
		case '\n':
			s.lines, s.x = append(s.lines, ""), 0
		default:
			if r < ' ' {
				panic(fmt.Sprintf("control character %q on the screen", r))
			}
			if s.x == len(line) {
				line = append(line, ' ')
			}
			line[s.x] = r
			s.x++
			s.lines[len(s.lines)-1] = string(line)
		}
	}
	return len(p), nil
}

// String returns what can be seen, with "|" between lines.
func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := make([]string, len(s.lines))
	for i, l := range s.lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	return strings.Join(lines, "|")
}

// after lets time pass and then compares the screen.
func (s *screen) after(t *testing.T, d time.Duration, want string) {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	if got := s.String(); got != want {
		t.Errorf("the screen shows %q, want %q", got, want)
	}
}

func terminal(s *screen) termui.ProgressOptions {
	return termui.ProgressOptions{Out: s, Terminal: true, Width: func() int { return 21 }, Interval: 100 * time.Millisecond}
}

func TestProgressOnTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(screen)
		p := termui.NewProgress(terminal(s))
		defer p.Stop()
		n := 10000
		p.Update(func() string { n /= 10; return fmt.Sprintf("%d files", n) })
		s.after(t, 50*time.Millisecond, "")
		s.after(t, 100*time.Millisecond, "1000 files")
		s.after(t, 100*time.Millisecond, "100 files") // shorter: nothing is left behind
		p.Println("warning: \x1b[1m\n")
		s.after(t, 0, `warning: \x1b[1m\n|100 files`)
		s.after(t, 100*time.Millisecond, `warning: \x1b[1m\n|10 files`)
		p.Aside(func() { io.WriteString(s, "data\n") })
		s.after(t, 0, `warning: \x1b[1m\n|data|10 files`)
		p.Update(func() string { return "a line that is longer than the terminal is wide\n" })
		s.after(t, 100*time.Millisecond, `warning: \x1b[1m\n|data|a line that is long…`)
		p.Update(nil)
		s.after(t, 0, `warning: \x1b[1m\n|data|`)
		s.after(t, time.Second, `warning: \x1b[1m\n|data|`)
		p.Update(func() string { return "again" })
		s.after(t, 100*time.Millisecond, `warning: \x1b[1m\n|data|again`)
		p.Stop()
		p.Stop()
		s.after(t, time.Second, `warning: \x1b[1m\n|data|`)
		p.Println("done")
		s.after(t, 0, `warning: \x1b[1m\n|data|done|`)
	})
}

func TestProgressPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(screen)
		p := termui.NewProgress(termui.ProgressOptions{Out: s, Interval: time.Minute})
		defer p.Stop()
		p.Update(func() string { return "some\rstatus" })
		s.after(t, 59*time.Second, "")
		p.Println("message")
		s.after(t, 2*time.Second, `message|some\rstatus|`)
		s.after(t, 58*time.Second, `message|some\rstatus|`)
		s.after(t, 2*time.Second, `message|some\rstatus|some\rstatus|`)
		p.Stop()
		s.after(t, time.Hour, `message|some\rstatus|some\rstatus|`)
	})
}

func TestProgressQuietAndOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(screen)
		quiet := terminal(s)
		quiet.Quiet = true
		p := termui.NewProgress(quiet)
		p.Update(func() string { return "status" })
		p.Println("message")
		s.after(t, time.Hour, "")
		p.Warn("disk on fire")
		p.Stop()
		s.after(t, 0, "disk on fire|")

		s = new(screen)
		off := terminal(s)
		off.Interval = 0
		p = termui.NewProgress(off)
		p.Update(func() string { return "status" })
		p.Println("message")
		s.after(t, time.Hour, "message|")
		p.Stop()
	})
}

// TestProgressTicker has the ticks come from the test, and a status that waits for
// a lock that is held by somebody who prints.
func TestProgressTicker(t *testing.T) {
	s := new(screen)
	ticks, stopped := make(chan time.Time), false
	opts := terminal(s)
	opts.NewTicker = func(d time.Duration) (<-chan time.Time, func()) {
		if d != opts.Interval {
			t.Errorf("interval %v", d)
		}
		return ticks, func() { stopped = true }
	}
	p := termui.NewProgress(opts)
	var work sync.Mutex
	p.Update(func() string {
		work.Lock()
		defer work.Unlock()
		return "status"
	})
	work.Lock()
	ticks <- time.Time{}
	p.Println("message") // would wait for ever if the status were made under a lock
	work.Unlock()
	ticks <- time.Time{} // is taken when the first has been dealt with
	if got := s.String(); got != "message|status" {
		t.Errorf("%q", got)
	}
	p.Stop()
	if got := s.String(); got != "message|" || !stopped {
		t.Errorf("%q, ticker stopped: %v", got, stopped)
	}
}

func TestProgressConcurrent(t *testing.T) {
	s := new(screen)
	opts := terminal(s)
	opts.Interval = time.Microsecond
	p := termui.NewProgress(opts)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 50 {
				p.Update(func() string { return fmt.Sprint("status ", i, j) })
				p.Println("message")
			}
		})
	}
	all.Wait()
	p.Stop()
	if want := strings.Repeat("message|", 200); s.String() != want {
		t.Errorf("the status tore the messages: %q", s.String())
	}
}

func TestDetectProgress(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, tc := range []struct {
		fps        string
		quiet, off bool
		want       time.Duration
	}{
		{"", false, false, time.Minute},
		{"", true, false, 0},
		{"", false, true, 0},
		{"0", false, false, 0},
		{"2", false, false, 500 * time.Millisecond},
		{"0.1", false, false, 10 * time.Second},
		{"1e-300", false, false, 24 * time.Hour},
		{"1e300", false, false, time.Second / 60},
		{"5", true, false, 0},
	} {
		o, err := termui.DetectProgress(file, env("CAIRN_PROGRESS_FPS", tc.fps), tc.quiet, tc.off)
		if err != nil || o.Interval.Round(time.Millisecond) != tc.want.Round(time.Millisecond) || o.Quiet != tc.quiet || o.Terminal || o.Out != file || o.Width() != 0 {
			t.Errorf("%+v: %+v, %v", tc, o, err)
		}
	}
	for _, fps := range []string{"x", "-1", "NaN", "Inf", " "} {
		if o, err := termui.DetectProgress(file, env("CAIRN_PROGRESS_FPS", fps), false, false); err == nil {
			t.Errorf("%q: %+v", fps, o)
		}
	}
}

func env(pairs ...string) func(string) string {
	return func(key string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == key {
				return pairs[i+1]
			}
		}
		return ""
	}
}
