//go:build !linux

package tune

// anonymous is the memory of this process that is its own, in bytes.
func anonymous() int64 { return heap() }
