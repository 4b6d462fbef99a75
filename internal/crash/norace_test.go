//go:build !race

package crash_test

// thinning is of how many cases a short run takes one.
const thinning = 8

// cutEvery is before how many operations of the disk a short run cuts the power once.
const cutEvery = 2

// failEvery is of how many syncs a short run fails one.
const failEvery = 2
