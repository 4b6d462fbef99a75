package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/backend/open"
	"github.com/cairn-backup/cairn/bench/tune"
	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/repo"
)

func (p *program) benchPrimitivesCommand() *cli.Command {
	return &cli.Command{
		Name:  "primitives",
		Usage: "measure each step of the data path alone, on one core",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "time", Value: 200 * time.Millisecond, Usage: "`DURATION` of each measurement"},
		},
		Action: p.benchPrimitives,
	}
}

func (p *program) benchPrimitives(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	d := c.Duration("time")
	if d < 0 {
		return usagef("--time %s: want a duration, such as 200ms", d)
	}
	var done atomic.Int64
	stop, err := p.show(c, func() string { return fmt.Sprintf("measured %s", plural(done.Load(), "step")) }, func() map[string]any {
		return map[string]any{"steps_done": done.Load()}
	})
	if err != nil {
		return err
	}
	all, err := tune.Primitives(c.Context, tune.PrimitiveOptions{Duration: d, Result: func(r tune.Primitive) {
		done.Add(1)
		if p.json != nil {
			p.json.Write("step", map[string]any{"name": r.Name, "text_bytes_per_second": r.Text, "random_bytes_per_second": r.Random})
		}
	}})
	stop()
	if err != nil {
		return err
	}
	if p.json != nil {
		p.json.Write("summary", map[string]any{"steps": len(all)})
		return nil
	}
	t := table("Step", ">Text", ">Random")
	for _, r := range all {
		t.Row(r.Name, megabytes(r.Text), megabytes(r.Random))
	}
	return p.print(t)
}

// megabytes is a speed in decimal units, as makers of disks and lines count.
func megabytes(perSecond float64) string {
	return termui.Count(int64(math.Round(perSecond/1e6))) + " MB/s"
}

func (p *program) benchRepoCommand() *cli.Command {
	return &cli.Command{
		Name:  "repo",
		Usage: "measure the repository's storage, with objects that are removed again",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "count", Value: 100, Usage: "make `N` calls of each kind at most"},
			&cli.StringFlag{Name: "size", Value: "16MiB", Usage: "`SIZE` of large objects"},
			&cli.DurationFlag{Name: "time", Value: 10 * time.Second, Usage: "make no more calls of a kind after `DURATION`"},
		},
		Action: p.benchRepo,
	}
}

func (p *program) benchRepo(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	o, err := storageOptions(c)
	if err != nil {
		return err
	}
	storage, err := p.storage(c, open.URL)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w at %s", repo.ErrNoRepository, c.String("repo"))
	}
	if err == nil {
		// No key is needed, but what is no repository is not written to.
		err = repo.Look(c.Context, storage)
	}
	if err != nil {
		return err
	}
	var at atomic.Pointer[string]
	o.Operation = func(name string) { at.Store(&name) }
	o.Result = func(op tune.Operation) {
		if p.json != nil {
			p.json.Write("operation", operationFields(op))
		}
	}
	what := func() string {
		if s := at.Load(); s != nil {
			return *s
		}
		return "removing left-overs"
	}
	stop, err := p.show(c, what, func() map[string]any { return map[string]any{"operation": what()} })
	if err != nil {
		return err
	}
	p.interrupted = "interrupted; what it had stored is removed again"
	ops, err := tune.Storage(c.Context, storage, *o)
	stop()
	var left *tune.LeftError
	if c.Context.Err() != nil && errors.As(err, &left) {
		p.interrupted = "interrupted; " + left.Error()
	}
	if err != nil {
		return err
	}
	return p.benchRepoReport(storage.String(), ops)
}

func storageOptions(c *cli.Context) (*tune.StorageOptions, error) {
	o := &tune.StorageOptions{Count: c.Int("count"), Limit: c.Duration("time"), Random: rand.Reader}
	if o.Count < 1 {
		return nil, usagef("--count %d: want at least 1", o.Count)
	}
	if o.Limit <= 0 {
		return nil, usagef("--time %s: want a duration, such as 10s", o.Limit)
	}
	var err error
	if o.Size, err = termui.ParseSize(c.String("size")); err != nil {
		return nil, usagef("--size: %v", err)
	}
	if o.Size < 1<<20 || o.Size > 256<<20 {
		return nil, usagef("--size %s: want 1MiB to 256MiB", c.String("size"))
	}
	return o, nil
}

func operationFields(op tune.Operation) map[string]any {
	return map[string]any{
		"name": op.Name, "count": op.Count, "bytes": op.Bytes, "duration": op.Wall.Seconds(), "per_second": op.PerSecond(),
		"bytes_per_second": op.Speed(), "median": op.Median.Seconds(), "p95": op.P95.Seconds(),
	}
}

func (p *program) benchRepoReport(storage string, ops []tune.Operation) error {
	if p.json != nil {
		p.json.Write("summary", map[string]any{"repository": storage, "operations": len(ops)})
		return nil
	}
	t := table("Call", ">Calls", ">Per second", ">Median", ">95 %", ">Speed")
	for _, op := range ops {
		speed := ""
		if op.Bytes > 0 {
			speed = megabytes(op.Speed())
		}
		t.Row(op.Name, termui.Count(int64(op.Count)), fmt.Sprintf("%.1f", op.PerSecond()), milliseconds(op.Median), milliseconds(op.P95), speed)
	}
	return p.print(t)
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1000) }
