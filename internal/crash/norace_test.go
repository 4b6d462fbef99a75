//go:build !race

package crash_test

const racing = false

// How much a short run does: one of so many cases, cuts of the power, and syncs that
// fail.
const (
	thinning  = 12
	cutEvery  = 2
	failEvery = 2
)
