//go:build !race

package crash_test

// thinning is of how many cases a short run takes one.
const thinning = 8
