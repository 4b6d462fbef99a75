package prefault

import (
	"runtime"
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

// What was made ready is what the next allocation gets.
func TestHeap(t *testing.T) {
	if err := populate(make([]byte, 1<<20)); err != nil {
		t.Skipf("SKIPPED: the kernel can't populate memory: %v", err)
	}
	Heap(size)
	before := faults(t)
	p := make([]byte, size)
	for i := 0; i < len(p); i += 4 << 10 {
		p[i]++
	}
	n := faults(t) - before
	runtime.KeepAlive(p)
	if pages := int64(size / (4 << 10)); n > pages/2 {
		t.Errorf("%d faults for %d pages", n, pages)
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
