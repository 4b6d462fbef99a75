//go:build race

package repo_test

// step is how many operations lie between those that fail: the detector makes
// each case some five times as slow.
const step = 3
