package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// A stopwatch counts wall time and the CPU time of the process.
type stopwatch struct {
	wall, cpu  time.Duration
	began      time.Time
	beganUsage time.Duration
}

func (s *stopwatch) start() { s.began, s.beganUsage = time.Now(), cpuTime() }

// stop adds what has passed, and returns the wall time of it.
func (s *stopwatch) stop() time.Duration {
	d := time.Since(s.began)
	s.wall += d
	s.cpu += cpuTime() - s.beganUsage
	return d
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it can't fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// anonymous returns RssAnon of this process in bytes.
func anonymous() float64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(b, []byte("RssAnon:"))
	f := bytes.Fields(rest)
	if len(f) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(string(f[0]))
	return float64(n) * 1024
}

const (
	segmentsMade   = 10_000
	chunksInPack   = 40
	batchSegments  = 1024    // as the repository absorbs them
	batchChunks    = 1 << 18 // likewise
	lookups        = 1_000_000
	smallSegment   = 1000
	absorbedSingly = 100
)

var place = seal.Place{Epoch: 1}

// A world makes segments whose chunks have numbers.
type world struct {
	ring *seal.Keyring
	keys *seal.Keys
	key  ed25519.PrivateKey
	next uint64 // chunk
	rng  *rand.ChaCha8
}

func newWorld(next int, seed byte) *world {
	w := &world{ring: seal.NewKeyring(seal.RepositoryID{7}), next: uint64(next), rng: rand.NewChaCha8([32]byte{seed})}
	w.ring.Add(place, [32]byte{2})
	w.keys, _ = w.ring.Keys(place)
	w.key = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	return w
}

func (w *world) admin() seal.Signer { return seal.SignerOf(w.key) }

// chunkID returns the ID of a chunk's number; those from 1 << 40 on are in no segment.
func chunkID(n uint64) (id chunk.ID) {
	for i := range 4 {
		x := (4*n + uint64(i) + 1) * 0x9e3779b97f4a7c15 // SplitMix64
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		binary.BigEndian.PutUint64(id[8*i:], x^x>>31)
	}
	return id
}

func (w *world) segment(chunks int) (*index.Segment, error) {
	b := index.NewBuilder()
	for left := chunks; left > 0; left -= chunksInPack {
		f := pack.Finished{Kind: seal.DataPack}
		w.rng.Read(f.ID[:])
		offset := uint32(pack.PrefixSize)
		for range min(left, chunksInPack) {
			e := pack.Entry{ID: chunkID(w.next), Offset: offset, Kind: chunk.Data, Encoding: pack.Zstd, Raw: 1 << 20, Stored: 1 << 18}
			w.next++
			f.Entries = append(f.Entries, e)
			offset += e.Stored
		}
		f.Size = int64(offset) + 3000
		if err := b.AddPack(f); err != nil {
			return nil, err
		}
	}
	h := seal.Header{Kind: seal.Segment, Repository: w.ring.Repository, Place: place}
	object, _, err := b.Encode(w.rng, h, w.keys, w.key)
	if err != nil {
		return nil, err
	}
	return index.Open(object, w.ring)
}

// fill makes an index from nothing.
func fill(j job) (r results, err error) {
	w := newWorld(0, 1)
	l, err := index.OpenLocal(j.Path, w.ring.Repository, index.Options{})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	var watch stopwatch
	largest := 0.0
	var batch []*index.Segment
	inBatch, done := 0, 0
	for made := range segmentsMade {
		s, err := w.segment(j.Chunks / segmentsMade)
		if err != nil {
			return nil, err
		}
		batch = append(batch, s)
		inBatch += s.Len()
		if len(batch) < batchSegments && inBatch < batchChunks && made < segmentsMade-1 {
			continue
		}
		watch.start()
		if err := l.Absorb(context.Background(), w.admin(), batch...); err != nil {
			return nil, err
		}
		watch.stop()
		done += inBatch
		size, err := sizeOf(j.Path)
		if err != nil {
			return nil, err
		}
		if 4*done > j.Chunks {
			largest = max(largest, size/float64(done))
		}
		batch, inBatch = batch[:0], 0
	}
	watch.start()
	if err := l.Merge(context.Background()); err != nil {
		return nil, err
	}
	merged := watch.stop()
	size, err := sizeOf(j.Path)
	if err != nil {
		return nil, err
	}
	largest = max(largest, size/float64(done))
	r.add("inserts in bulk", float64(done)/watch.wall.Seconds()/1e6, "million/s")
	r.add("… CPU", float64(done)/watch.cpu.Seconds()/1e6, "million/s")
	r.add("… of which merging", merged.Seconds(), "s")
	r.add("file, at most while filled", largest, "bytes/chunk")
	return r, nil
}

func sizeOf(path string) (float64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return float64(info.Size()), nil
}

// readThrough brings a file into the page cache.
func readThrough(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}

// use opens a filled index, and does with it what a snapshot does.
func use(j job) (r results, err error) {
	if err := readThrough(j.Path); err != nil {
		return nil, err
	}
	runtime.GC()
	before := anonymous()
	memory := func(step string) { r.add("anonymous memory, "+step, (anonymous()-before)/(1<<20), "MiB") }
	w := newWorld(j.Chunks, 2)
	var watch stopwatch
	watch.start()
	l, err := index.OpenLocal(j.Path, w.ring.Repository, index.Options{})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	watch.stop()
	r.add("opening", watch.wall.Seconds()*1e3, "ms")
	r.add("… CPU", watch.cpu.Seconds()*1e3, "ms")
	memory("opened")
	if err := r.lookups(l, j.Chunks, "after filling"); err != nil {
		return nil, err
	}
	memory("looked up")
	if err := r.absorbs(l, w); err != nil {
		return nil, err
	}
	if err := r.lookups(l, j.Chunks, "after that"); err != nil {
		return nil, err
	}
	memory("at the end")
	if err := r.fileSize(l, j.Path); err != nil {
		return nil, err
	}
	return r, r.entries(l, int(w.next))
}

// lookups measures look-ups of chunks that are there and of some that are not, by one
// goroutine and by as many as there are processors, as the workers of a snapshot do it.
func (r *results) lookups(l *index.Local, n int, when string) error {
	st, err := l.Stats()
	if err != nil {
		return err
	}
	r.add("sorted runs "+when, float64(st.Runs), "runs")
	for _, known := range []bool{true, false} {
		name := "look-ups of what is there, " + when
		if !known {
			name = "look-ups of what is not there, " + when
		}
		if _, err := lookUp(l, n, lookups/4, known, 3); err != nil { // warms up
			return err
		}
		watch, err := lookUp(l, n, lookups, known, 4)
		if err != nil {
			return err
		}
		r.add(name, lookups/watch.wall.Seconds()/1e3, "thousand/s")
		r.add("… CPU", lookups/watch.cpu.Seconds()/1e3, "thousand/s")
		workers := runtime.GOMAXPROCS(0)
		var all stopwatch
		var g errgroup.Group
		all.start()
		for seed := range workers {
			g.Go(func() error {
				_, err := lookUp(l, n, lookups, known, uint64(5+seed))
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		all.stop()
		r.add(fmt.Sprintf("… by %d goroutines", workers), float64(workers)*lookups/all.wall.Seconds()/1e3, "thousand/s")
	}
	return nil
}

// lookUp looks up some of n chunks.
func lookUp(l *index.Local, n, count int, known bool, seed uint64) (watch stopwatch, err error) {
	rng := rand.New(rand.NewPCG(1, seed))
	from := uint64(0)
	if !known {
		from = 1 << 40
	}
	var places []index.Place
	watch.start()
	for range count {
		places, err = l.AppendPlaces(places[:0], chunkID(from+rng.Uint64N(uint64(n))))
		if err != nil {
			return watch, err
		}
		if (len(places) > 0) != known {
			return watch, errors.New("a look-up went wrong")
		}
	}
	watch.stop()
	return watch, nil
}

// absorbs measures what snapshots do: one new segment, and another.
func (r *results) absorbs(l *index.Local, w *world) error {
	var watch stopwatch
	var longest time.Duration
	for range absorbedSingly {
		s, err := w.segment(smallSegment)
		if err != nil {
			return err
		}
		watch.start()
		if err := l.Absorb(context.Background(), w.admin(), s); err != nil {
			return err
		}
		longest = max(longest, watch.stop())
	}
	r.add("absorbing 1,000 chunks", watch.wall.Seconds()*1e3/absorbedSingly, "ms")
	r.add("… CPU", watch.cpu.Seconds()*1e3/absorbedSingly, "ms")
	r.add("… the longest", longest.Seconds()*1e3, "ms")
	return nil
}

func (r *results) entries(l *index.Local, want int) error {
	var watch stopwatch
	watch.start()
	n := 0
	for _, err := range l.Entries() {
		if err != nil {
			return err
		}
		n++
	}
	watch.stop()
	if n != want {
		return fmt.Errorf("%d entries, want %d", n, want)
	}
	r.add("reading all entries", float64(n)/watch.wall.Seconds()/1e6, "million/s")
	return nil
}

func (r *results) fileSize(l *index.Local, path string) error {
	size, err := sizeOf(path)
	if err != nil {
		return err
	}
	st, err := l.Stats()
	if err != nil {
		return err
	}
	r.add("file", size/float64(st.Chunks), "bytes/chunk")
	return nil
}
