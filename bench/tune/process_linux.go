package tune

import (
	"bytes"
	"os"
	"strconv"
)

// anonymous is the anonymous memory of this process, in bytes: what is its own, without
// pages of mapped files, which are the kernel's to keep or drop.
func anonymous() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return heap()
	}
	_, rest, _ := bytes.Cut(status, []byte("\nRssAnon:"))
	line, _, _ := bytes.Cut(rest, []byte("kB"))
	n, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 10, 64)
	if err != nil {
		return heap()
	}
	return n << 10
}
