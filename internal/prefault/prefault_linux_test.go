//go:build !race

package prefault

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"

	"golang.org/x/sys/unix"
)

const size = 64 << 20

func faults(t *testing.T) int64 {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return u.Minflt
}

// What was made ready is what the next allocation gets. The race detector has memory of its own,
// whose faults would count too.
func TestHeap(t *testing.T) {
	if err := populate(make([]byte, 1<<20)); err != nil {
		t.Skipf("SKIPPED: the kernel can't populate memory: %v", err)
	}
	// Something else may take a part of it, or the kernel get it back, but not each time.
	const pages = size / (4 << 10)
	least := int64(math.MaxInt64)
	for range 10 {
		Heap(size)
		before := faults(t)
		p := make([]byte, size)
		for i := 0; i < len(p); i += 4 << 10 {
			p[i]++
		}
		least = min(least, faults(t)-before)
		runtime.KeepAlive(p)
		debug.FreeOSMemory()
	}
	if least > pages/2 {
		t.Errorf("at least %d faults for %d pages", least, pages)
	}
}

// Contents are left alone.
func TestPopulate(t *testing.T) {
	p := make([]byte, 1<<20+100)
	for i := range p {
		p[i] = byte(i)
	}
	if err := populate(p); err != nil {
		t.Skipf("SKIPPED: the kernel can't populate memory: %v", err)
	}
	for i := range p {
		if p[i] != byte(i) {
			t.Fatalf("byte %d is %d", i, p[i])
		}
	}
}
