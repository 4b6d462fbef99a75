//go:build race

package crash_test

const racing = true

// How much a short run does: little, as the race detector makes each case some five
// times as slow.
const (
	thinning  = 40
	cutEvery  = 13
	failEvery = 9
)
