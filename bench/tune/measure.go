package tune

import (
	"context"
	"errors"
	"os"
	"runtime/debug"
	"time"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
)

// measure makes a snapshot of the sample with a setting.
func measure(ctx context.Context, o Options, sample Sample, s Setting) (res Result, err error) {
	dir, err := os.MkdirTemp("", "cairn-bench-") // for the cache, with the index
	if err != nil {
		return res, err
	}
	defer os.RemoveAll(dir)
	identity, err := seal.NewIdentity(o.Random) // a passphrase would only take time
	if err != nil {
		return res, err
	}
	storage := newSink(o.Now)
	r, err := repo.Init(ctx, repo.Options{Storage: storage, Cache: dir, Now: o.Now, Random: o.Random}, repo.Params{
		Chunker: s.Params(), Compression: s.Compression, Lock: identity.Recipient(), Label: "bench",
	})
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()

	counters := new(ingest.Progress)
	opts := ingest.Options{
		Paths: sample.paths, Host: "bench", Program: "cairn bench", NoParent: true, AllowIncomplete: true,
		Observer: ingest.Observer{Progress: counters},
	}
	if s.Chunker == Fixed {
		opts.Splitter = fixed{s.Params()}
	}
	streams, closeAll := sample.open(ctx)
	defer closeAll()
	for _, st := range streams {
		opts.Sources = append(opts.Sources, st)
	}

	before := storage.bytes()
	// What an earlier measurement has left is not this one's.
	debug.FreeOSMemory()
	w := watch(func() { o.Observer.progress(counters.BytesDone.Load(), sample.Taken) })
	start, cpu := o.Now(), cpuTime()
	snap, err := ingest.Snapshot(ctx, r, opts)
	wall, cpu := o.Now().Sub(start), cpuTime()-cpu
	peak := w.stop()
	if err != nil {
		return res, err
	}
	return Result{
		Setting: s, Bytes: int64(snap.Totals.Bytes), Unique: int64(snap.Totals.NewRaw), Stored: storage.bytes() - before,
		Wall: wall, CPU: cpu, PeakAnon: peak,
	}, nil
}

// fixed is a splitter whose chunks are all of the average size. It is immutable.
type fixed struct{ params chunk.Params }

func (f fixed) Cut(p []byte) int     { return min(len(p), f.params.Avg) }
func (f fixed) Params() chunk.Params { return f.params }

// watching samples the memory of the process.
type watching struct {
	end  chan struct{}
	peak chan int64
}

const sampleEvery = 5 * time.Millisecond

// watch looks at the memory until it is stopped, and calls progress now and then.
func watch(progress func()) watching {
	w := watching{make(chan struct{}), make(chan int64)}
	go func() {
		var peak int64
		t := time.NewTicker(sampleEvery)
		defer t.Stop()
		for n := 0; ; n++ {
			peak = max(peak, anonymous())
			if n%20 == 0 {
				progress()
			}
			select {
			case <-t.C:
			case <-w.end:
				w.peak <- max(peak, anonymous())
				return
			}
		}
	}()
	return w
}

func (w watching) stop() (peak int64) {
	close(w.end)
	return <-w.peak
}
