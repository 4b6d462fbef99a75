package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/snapshot"
)

// output is the standard output. It remembers the first error, so that a run
// whose result got lost does not end as if all were well.
type output struct {
	io.Writer
	mu  sync.Mutex
	err error
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.Writer.Write(b)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// text prints a text that is the whole result of a command.
func (p *program) text(s string) {
	if p.json != nil {
		p.json.Write("summary", map[string]any{"text": s})
		return
	}
	fmt.Fprint(p.Stdout, s)
}

// plural is a number of things.
func plural[N int | int64 | uint64](n N, one string) string {
	switch {
	case n == 1:
		return "1 " + one
	case strings.HasSuffix(one, "y"):
		one = strings.TrimSuffix(one, "y") + "ie"
	}
	return termui.Count(int64(n)) + " " + one + "s"
}

// stamp is a time for programs.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z07:00") }

// idOrNull is an ID for programs, null if it is zero.
func idOrNull(id snapshot.ID) any {
	if id.IsZero() {
		return nil
	}
	return id.String()
}

// shellWord quotes a word such that a shell takes it as one.
func shellWord(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@,%") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// table collects rows for people. A title that begins with > is of a column of
// numbers.
func table(titles ...string) *termui.Table {
	var columns []termui.Column
	for _, t := range titles {
		name, right := strings.CutPrefix(t, ">")
		columns = append(columns, termui.Column{Title: name, Right: right, Shrink: name == "Sources" || name == "Label"})
	}
	return termui.NewTable(columns...)
}

// print writes a table as wide as the terminal is.
func (p *program) print(t *termui.Table) error {
	if t.Len() == 0 {
		return nil
	}
	width := 0
	if f := asFile(p.Stdout); f != nil {
		width = termui.Width(f)
	}
	return t.Write(p.Stdout, width)
}

// pathFields are the keys of a message about a path.
func pathFields(path string) map[string]any {
	f := termui.PathFields(path)
	m := map[string]any{"path": f.Path}
	if f.B64 != nil {
		m["path_b64"] = f.B64
	}
	return m
}

// show shows progress until the function that it returns is called.
func (p *program) show(c *cli.Context, line func() string, fields func() map[string]any) (stop func(), err error) {
	opts, err := termui.DetectProgress(asFile(p.Stderr), os.Getenv, p.quiet, c.Bool("no-progress"))
	if err != nil {
		return nil, usagef("%v", err)
	}
	if p.json != nil {
		if opts.Interval > 0 && os.Getenv("CAIRN_PROGRESS_FPS") == "" {
			opts.Interval = time.Second
		}
		return p.showJSON(opts.Interval, fields), nil
	}
	opts.Out = p.Stderr
	p.progress.Store(termui.NewProgress(opts))
	p.progress.Load().Update(line)
	return func() {
		p.progress.Swap(nil).Stop()
	}, nil
}

// asFile returns the file that w is, nil if it is something else, as in tests.
func asFile(w io.Writer) *os.File {
	if o, ok := w.(*output); ok {
		w = o.Writer
	}
	f, _ := w.(*os.File)
	return f
}

// showJSON writes a status line at each interval; 0 is never.
func (p *program) showJSON(interval time.Duration, fields func() map[string]any) (stop func()) {
	if interval == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(interval)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				p.json.Write("status", fields())
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}
