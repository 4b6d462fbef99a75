package main

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/bench/tune"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/pack"
)

func (p *program) benchCommand() *cli.Command {
	return &cli.Command{
		Name:      "bench",
		Usage:     "find the best settings for your data, and measure machine and storage",
		ArgsUsage: "PATH...",
		Description: "Makes a snapshot of the paths with each of several settings, storing nothing, and\n" +
			"recommends one for cairn init. Give two versions of the same (two dumps, two days\n" +
			"of a folder), the older first, to see what deduplication and deltas will do later: each\n" +
			"of up to eight paths becomes a snapshot, in their order. Chunks of fixed size are\n" +
			"measured for comparison; no repository has them.",
		Subcommands: []*cli.Command{p.benchPrimitivesCommand(), p.benchRepoCommand()},
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "size", Value: "2GiB", Usage: "read at most `SIZE` of the data for each setting, an evenly spread sample of more (0: all of it)"},
			&cli.StringFlag{Name: "chunker", Value: "fastcdc,rabin,fixed", Usage: "`ALGORITHMS` to try: fastcdc, fastcdc-prf, rabin, fixed"},
			&cli.StringFlag{Name: "chunk-size", Value: "256KiB,512KiB,1MiB,2MiB,4MiB", Usage: "average `SIZES` of chunks to try"},
			&cli.StringFlag{Name: "compression", Value: "fastest,default,better", Usage: "`LEVELS` to try"},
			&cli.StringFlag{Name: "deltas", Value: "on,off", Usage: "store chunks as differences to others: `WHAT` to try, on or off; with two to eight paths only"},
			&cli.BoolFlag{Name: "all", Usage: "try each combination, and not one value after the other"},
			&cli.StringFlag{Name: "prefer", Value: "balance", Usage: "`WHAT` counts more: speed, size, or the balance of both"},
		},
		Action: p.bench,
	}
}

func (p *program) bench(c *cli.Context) error {
	o, err := benchOptions(c)
	if err != nil {
		return err
	}
	at := new(benchState)
	lost := 0
	o.Observer = tune.Observer{
		Sample:   p.benchSample,
		Problem:  func(path string, err error) { lost++; p.snapshotProblem(path, err, true) },
		Begin:    at.begin,
		Progress: at.progress,
		Result:   p.benchResult,
	}
	stop, err := p.show(c, at.line, at.fields)
	if err != nil {
		return err
	}
	p.interrupted = "interrupted; nothing was stored"
	r, err := tune.Run(c.Context, *o)
	stop()
	if errors.Is(err, tune.ErrNothing) {
		return &hintError{err, "name files or directories with data as a repository will have them"}
	}
	if err != nil {
		return err
	}
	if err := p.benchReport(r, o.Prefer); err != nil {
		return err
	}
	if lost > 0 {
		return &statusError{statusIncomplete, fmt.Errorf("%s could not be read; the results are without what is named above", plural(lost, "item"))}
	}
	return nil
}

func benchOptions(c *cli.Context) (*tune.Options, error) {
	if c.NArg() == 0 {
		return nil, usagef("bench what? give files or directories, or one of the commands primitives and repo")
	}
	o := &tune.Options{Paths: c.Args().Slice(), All: c.Bool("all")}
	var err error
	if o.Budget, err = termui.ParseSize(c.String("size")); err != nil {
		return nil, usagef("--size: %v", err)
	}
	if o.Prefer, err = tune.ParsePreference(c.String("prefer")); err != nil {
		return nil, usagef("--prefer: %v", err)
	}
	o.Axes.Chunkers, err = listOption(c, "chunker", tune.ParseChunker)
	if err != nil {
		return nil, err
	}
	o.Axes.ChunkSizes, err = listOption(c, "chunk-size", func(s string) (int, error) {
		params, err := chunkerParams(chunk.FastCDC, s)
		return params.Avg, err
	})
	if err != nil {
		return nil, err
	}
	o.Axes.Levels, err = listOption(c, "compression", pack.ParseCompression)
	if err != nil {
		return nil, err
	}
	o.Axes.Deltas, err = listOption(c, "deltas", func(s string) (bool, error) {
		if s != onOff[true] && s != onOff[false] {
			return false, fmt.Errorf("%q: want on or off", s)
		}
		return s == onOff[true], nil
	})
	return o, err
}

var onOff = map[bool]string{true: "on", false: "off"}

// listOption reads an option with values between commas.
func listOption[T comparable](c *cli.Context, name string, parse func(string) (T, error)) ([]T, error) {
	var all []T
	seen := make(map[T]bool)
	for word := range strings.SplitSeq(c.String(name), ",") {
		v, err := parse(strings.TrimSpace(word))
		if err != nil {
			return nil, usagef("--%s: %v", name, err)
		}
		if !seen[v] {
			seen[v] = true
			all = append(all, v)
		}
	}
	return all, nil
}

// benchState is how far a bench has come, for the progress.
type benchState struct {
	n, of       atomic.Int64
	setting     atomic.Pointer[tune.Setting]
	done, total atomic.Int64
}

func (s *benchState) begin(n, of int, setting *tune.Setting) {
	s.n.Store(int64(n))
	s.of.Store(int64(of))
	s.setting.Store(setting)
	s.done.Store(0)
}

func (s *benchState) progress(done, total int64) {
	s.done.Store(done)
	s.total.Store(total)
}

func (s *benchState) line() string {
	if s.of.Load() == 0 {
		return "looking at the files"
	}
	what := "reading alone"
	if setting := s.setting.Load(); setting != nil {
		what = setting.String()
	}
	return fmt.Sprintf("%d of %d: %s: %s of %s", s.n.Load(), s.of.Load(), what, termui.Size(s.done.Load()), termui.Size(s.total.Load()))
}

func (s *benchState) fields() map[string]any {
	return map[string]any{"measurement": s.n.Load(), "measurements": s.of.Load(), "bytes_done": s.done.Load(), "bytes": s.total.Load()}
}

func (p *program) benchSample(s tune.Sample) {
	if p.json != nil {
		p.json.Write("sample", map[string]any{"files": s.Files, "bytes": s.Bytes, "bytes_taken": s.Taken, "whole": s.Whole})
		return
	}
	if !s.Whole && !p.quiet {
		p.warn("of %s in %s, a sample of %s is read for each setting (--size 0 reads all)", termui.Size(s.Bytes), plural(s.Files, "file"), termui.Size(s.Taken))
	}
}

func (p *program) benchResult(r tune.Result) {
	if p.json != nil {
		p.json.Write("result", resultFields(r))
	}
}

func resultFields(r tune.Result) map[string]any {
	return map[string]any{
		"chunker": tune.ChunkerName(r.Chunker), "chunk_size": r.ChunkSize, "compression": r.Compression.String(), "deltas": r.Deltas, "offered": r.Offered(),
		"bytes": r.Bytes, "bytes_unique": r.Unique, "bytes_stored": r.Stored, "duration": r.Wall.Seconds(), "cpu": r.CPU.Seconds(),
		"bytes_per_second": r.Speed(), "deduplication": r.Dedup(), "compression_ratio": r.Compressed(), "peak_anonymous_bytes": r.PeakAnon,
	}
}

// initOptions are the options that give a repository a setting.
func initOptions(s tune.Setting) []string {
	return []string{"--chunker", tune.ChunkerName(s.Chunker), "--chunk-size", sizeOption(s.ChunkSize), "--compression", s.Compression.String()}
}

func (p *program) benchReport(r *tune.Report, prefer tune.Preference) error {
	options, snapshotOptions := initOptions(r.Best.Setting), []string{}
	if !r.Best.Deltas {
		snapshotOptions = []string{"--delta-budget", "0"}
	}
	if p.json != nil {
		f := resultFields(r.Best)
		f["snapshot_options"] = snapshotOptions
		f["options"], f["prefer"], f["repeats"], f["reading_alone"] = options, prefer.String(), r.Repeats(), r.Reading.Seconds()
		p.json.Write("summary", f)
		return nil
	}
	t := table("Chunker", ">Chunk", "Compression", "Deltas", ">Speed", ">CPU", ">Dedup", ">Compressed", ">Stored", ">Memory", "")
	t.Row("reading alone", "", "", "", termui.Rate(r.Sample.Taken, r.Reading))
	for _, res := range r.Results {
		mark := ""
		if res == r.Best {
			mark = "<"
		}
		t.Row(tune.ChunkerName(res.Chunker), sizeOption(res.ChunkSize), res.Compression.String(), onOff[res.Deltas], termui.Rate(res.Bytes, res.Wall),
			termui.Duration(res.CPU), fmt.Sprintf("%.2f", res.Dedup()), fmt.Sprintf("%.2f", res.Compressed()), termui.Size(res.Stored),
			termui.Size(res.PeakAnon), mark)
	}
	if err := p.print(t); err != nil {
		return err
	}
	fmt.Fprintf(p.Stdout, "\nrecommended: cairn init %s\n", strings.Join(options, " "))
	if len(snapshotOptions) > 0 {
		fmt.Fprintf(p.Stdout, "             cairn snapshot %s\n", strings.Join(snapshotOptions, " "))
	}
	if !r.Repeats() {
		p.printf("  Nothing in these data is there twice, so larger chunks than the default's are not recommended,\n" +
			"  whatever they save now: give two versions of the data to see what is found again later.\n")
	}
	return nil
}
