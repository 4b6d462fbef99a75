package ingest

import (
	"math/bits"

	"github.com/cairn-backup/cairn/snapshot"
)

// Small files share chunks. A bundle holds the contents of neighbouring
// files, in path order, and ends at a file boundary.
const (
	// smallFile is the size below which a file goes into a bundle, in bytes.
	// It is also where the content hash changes its form (docs/format.md,
	// section 10).
	smallFile = 256 << 10
	// minBundle is the size that a bundle reaches before it may end.
	minBundle = 256 << 10
	// maxBundle is the size that a bundle never exceeds.
	maxBundle = 1 << 20
	// tailBundle is how many bytes beyond minBundle a bundle has on average.
	tailBundle = 256 << 10
	// leastBundled is what a file counts for at least, empty ones too: a job has
	// the entries of a bundle, and they should not become too many.
	leastBundled = 128
)

// bundler decides where bundles end. As with content-defined chunking, whether a bundle
// ends behind a file depends on that file alone once the bundle has its
// minimum: so the same run of files makes the same bundles again, whatever
// stands before it. The file's base name and size decide, not its contents: they
// are known before it is read, so bundles can be read in parallel, and a
// moved directory still gives the bundles it had.
type bundler struct {
	seed uint64 // secret, so that nobody can tell from names where bundles end
	size int64
}

// fits reports whether a file of that size still goes into the bundle.
func (b *bundler) fits(size int64) bool {
	return b.size == 0 || b.size+max(size, leastBundled) <= maxBundle
}

// add puts a file into the bundle and reports whether the bundle ends behind
// it.
func (b *bundler) add(name string, size int64) (ends bool) {
	counts := max(size, leastBundled)
	b.size += counts
	if b.size < minBundle {
		return false
	}
	// A file ends the bundle with a probability in proportion to its size, so
	// that the tail has the same length in bytes for files of all sizes.
	hi, _ := bits.Mul64(hashName(b.seed, name, size), tailBundle)
	return hi < uint64(counts)
}

// reset begins a new bundle.
func (b *bundler) reset() { b.size = 0 }

// hashName is FNV-1a over name and size with a seeded start and a finalizer,
// as FNV's high bits are weak for short names.
func hashName(seed uint64, name string, size int64) uint64 {
	const prime = 1099511628211
	h := seed ^ 14695981039346656037
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * prime
	}
	h ^= uint64(size) * 0x9e3779b97f4a7c15
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	return h ^ h>>32
}

// liveness counts how much of each bundle a snapshot still uses. What is less than
// half alive is thin: its files are read and bundled again by the next
// snapshot, so that a few surviving files do not pin many dead ones
// (bundle_test.go simulates a year of it).
type liveness struct {
	bundles map[bundleKey]int64 // bytes in use
}

type bundleKey struct {
	id   [32]byte
	size uint32
}

func (l *liveness) add(e *snapshot.Entry) {
	for _, x := range e.Extents {
		if !x.Chunk.IsZero() && x.Length != uint64(x.ChunkSize) {
			if l.bundles == nil {
				l.bundles = make(map[bundleKey]int64)
			}
			l.bundles[bundleKey{x.Chunk, x.ChunkSize}] += int64(x.Length)
		}
	}
}

// thin returns the bundles that are less than half alive.
func (l *liveness) thin() [][32]byte {
	var ids [][32]byte
	for k, live := range l.bundles {
		if 2*live < int64(k.size) {
			ids = append(ids, k.id)
		}
	}
	return ids
}
