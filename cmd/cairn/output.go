package main

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/internal/termui"
)

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
	if f, ok := p.Stdout.(*os.File); ok {
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
	off := p.quiet || c.Bool("no-progress")
	if p.json != nil {
		if off {
			return func() {}, nil
		}
		return p.showJSON(fields), nil
	}
	opts, err := termui.DetectProgress(asFile(p.Stderr), os.Getenv, p.quiet, off)
	if err != nil {
		return nil, usagef("%v", err)
	}
	p.progress.Store(termui.NewProgress(opts))
	p.progress.Load().Update(line)
	return func() {
		p.progress.Swap(nil).Stop()
	}, nil
}

// asFile returns the file that w is, nil if it is something else, as in tests.
func asFile(w io.Writer) *os.File {
	f, _ := w.(*os.File)
	return f
}

// showJSON writes a status line a second.
func (p *program) showJSON(fields func() map[string]any) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(time.Second)
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
