package prefault

import (
	"os"

	"golang.org/x/sys/unix"
)

// populate has the kernel write to the whole pages of p (madvise(2), MADV_POPULATE_WRITE,
// since Linux 5.14). p must begin with a page, as what is large and from Go's heap does where pages
// have up to 8 KiB.
func populate(p []byte) error {
	page := os.Getpagesize()
	return unix.Madvise(p[:len(p)/page*page], unix.MADV_POPULATE_WRITE)
}
