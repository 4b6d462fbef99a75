package tune

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// deltaBudget is that of cairn snapshot, in bytes.
const deltaBudget = 1 << 30

// measure makes a snapshot of each version of the sample with a setting.
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
	packs := filepath.Join(dir, "packs")
	if err := os.Mkdir(packs, 0o700); err != nil {
		return res, err
	}
	storage := newSink(o.Now)
	if len(sample.versions) > 1 {
		storage.dir = packs // also if there are no deltas: to write them takes the same time then
	}
	r, err := repo.Init(ctx, repo.Options{Storage: storage, Cache: filepath.Join(dir, "cache"), Now: o.Now, Random: o.Random}, repo.Params{
		Chunker: s.Params(), Compression: s.Compression, Lock: identity.Recipient(), Label: "bench",
	})
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()

	counters := new(ingest.Progress)
	empty := storage.bytes()
	// What an earlier measurement has left is not this one's.
	debug.FreeOSMemory()
	res.Setting = s
	w := watch(func() { o.Observer.progress(counters.BytesDone.Load(), sample.Taken) })
	start, cpu := o.Now(), cpuTime()
	var before *snapshot.ID
	for _, v := range sample.versions {
		snap, err := v.snapshot(ctx, r, s, dir, before, counters)
		if err != nil {
			w.stop()
			return res, err
		}
		res.Bytes += int64(snap.Totals.Bytes)
		res.Unique += int64(snap.Totals.NewRaw)
		before = &snap.ID
	}
	res.Wall, res.CPU = o.Now().Sub(start), cpuTime()-cpu
	res.PeakAnon, res.Stored = w.stop(), storage.bytes()-empty
	return res, nil
}

// snapshot makes a snapshot of a version, with the one before as its parent. The storage counts for a directory
// of this machine, from which bases are read as they are needed.
func (v version) snapshot(ctx context.Context, r *repo.Repository, s Setting, dir string, parent *snapshot.ID, counters *ingest.Progress) (*ingest.Result, error) {
	paths, err := v.through(filepath.Join(dir, "data"))
	if err != nil {
		return nil, err
	}
	opts := ingest.Options{
		Repository: filepath.Join(dir, "packs"), Parent: parent, NoParent: parent == nil,
		Paths: paths, Host: "bench", Program: "cairn bench", AllowIncomplete: true,
		Observer: ingest.Observer{Progress: counters},
	}
	if s.Deltas {
		opts.DeltaBudget = deltaBudget
	}
	if s.Chunker == Fixed {
		opts.Splitter = fixed{s.Params()}
	}
	streams, closeAll := v.open(ctx)
	defer closeAll()
	for _, st := range streams {
		opts.Sources = append(opts.Sources, st)
	}
	return ingest.Snapshot(ctx, r, opts)
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
