//go:build race

package local_test

// seeds is how much random work TestPowerCut does: little where the race
// detector makes it ten times slower and has nothing to see, as one goroutine
// does it all.
const seeds = 10
