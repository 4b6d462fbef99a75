package cache

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/zeebo/blake3"
)

// Verified is the memory of when this machine last read each pack of a repository from
// its beginning to its end, and found it good. It is of one location, as copies of a
// repository can decay apart. It is safe for concurrent use, and takes some
// 100 bytes of memory, and 40 of the disk, for each pack.
//
// The file has a checksum and no seal: pack IDs stand in the local index as well, and the
// memory outlives an epoch and its keys. Whatever is damaged of it counts as absent.
type Verified struct {
	file string

	mu    sync.Mutex
	times map[[32]byte]int64 // nanoseconds since 1970
	gone  map[[32]byte]bool  // forgotten since the memory was read
}

// verifiedMagic begins the file. Records follow, in the order of their IDs: an ID and
// a time in 8 bytes; and then the BLAKE3 of all before.
const (
	verifiedMagic  = "cairn v1 verified packs\n"
	verifiedRecord = 32 + 8
)

// Verified reads the memory of a location. Times after now are of a clock that
// was wrong, and count as absent: such packs would be the last to be read again.
func (d *Dir) Verified(location string, now time.Time) *Verified {
	sum := blake3.Sum256([]byte(location))
	v := &Verified{file: d.Path(fmt.Sprintf("verified-%x", sum[:16])), gone: make(map[[32]byte]bool)}
	v.times = readVerified(v.file, now)
	return v
}

func readVerified(file string, now time.Time) map[[32]byte]int64 {
	times := make(map[[32]byte]int64)
	b, err := os.ReadFile(file)
	if err != nil || len(b) < len(verifiedMagic)+32 {
		return times
	}
	records, sum := b[:len(b)-32], b[len(b)-32:]
	if got := blake3.Sum256(records); !bytes.Equal(got[:], sum) || string(records[:len(verifiedMagic)]) != verifiedMagic {
		return times
	}
	for records = records[len(verifiedMagic):]; len(records) >= verifiedRecord; records = records[verifiedRecord:] {
		if at := int64(binary.LittleEndian.Uint64(records[32:])); at <= now.UnixNano() {
			times[[32]byte(records)] = at
		}
	}
	return times
}

// When returns when a pack was verified, if it was.
func (v *Verified) When(id [32]byte) (time.Time, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	at, ok := v.times[id]
	return time.Unix(0, at), ok
}

// Note remembers that a pack was found good.
func (v *Verified) Note(id [32]byte, at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.times[id] = at.UnixNano()
	delete(v.gone, id)
}

// Forget makes a pack one that was never verified.
func (v *Verified) Forget(id [32]byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.times, id)
	v.gone[id] = true
}

// Retain forgets the packs for which keep is false.
func (v *Verified) Retain(keep func(id [32]byte) bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id := range v.times {
		if !keep(id) {
			delete(v.times, id)
			v.gone[id] = true
		}
	}
}

// Save keeps the memory. What other programs have noted since it was read is taken in,
// but for what is noted by two at the same moment: of that, some may be lost.
// It does not wait for the disk.
func (v *Verified) Save(now time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, at := range readVerified(v.file, now) {
		if !v.gone[id] && at > v.times[id] {
			v.times[id] = at
		}
	}
	ids := make([][32]byte, 0, len(v.times))
	for id := range v.times {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	b := make([]byte, 0, len(verifiedMagic)+len(ids)*verifiedRecord+32)
	b = append(b, verifiedMagic...)
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint64(append(b, id[:]...), uint64(v.times[id]))
	}
	sum := blake3.Sum256(b)
	if err := writeFile(v.file, append(b, sum[:]...)); err != nil {
		return fmt.Errorf("remember which packs were verified: %w", err)
	}
	return nil
}
