package main

import (
	"fmt"
	"sync/atomic"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/internal/termui"
)

// showPhases shows how far a run has come that goes through phases. does says what it is
// about, up to the first phase. The run calls progress, from any goroutine.
func (p *program) showPhases(c *cli.Context, does, first string) (progress func(phase string, done, total int64), stop func(), err error) {
	type phase struct {
		name        string
		done, total int64
	}
	var at atomic.Pointer[phase]
	at.Store(&phase{name: first})
	stop, err = p.show(c, func() string {
		v := at.Load()
		return fmt.Sprintf("%s %s %s%s", does, v.name, termui.Count(v.done), of(v.total))
	}, func() map[string]any {
		v := at.Load()
		return map[string]any{"phase": v.name, "done": v.done, "total": v.total}
	})
	return func(name string, done, total int64) { at.Store(&phase{name, done, total}) }, stop, err
}

func of(total int64) string {
	if total == 0 {
		return ""
	}
	return " of " + termui.Count(total)
}
