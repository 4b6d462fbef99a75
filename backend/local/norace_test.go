//go:build !race

package local_test

// seeds is how much random work TestPowerCut does.
const seeds = 40
