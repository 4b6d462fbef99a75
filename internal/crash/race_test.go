//go:build race

package crash_test

// thinning is of how many cases a short run takes one: few with the race detector,
// which makes each some five times as slow.
const thinning = 30

// cutEvery is before how many operations of the disk a short run cuts the power once.
const cutEvery = 13

// failEvery is of how many syncs a short run fails one.
const failEvery = 9
