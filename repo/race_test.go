//go:build race

package repo_test

// racing: the detector makes everything some five times as slow, and large copies fifty
// times.
const racing = true

// step is how many cases of a row are taken at once.
const step = 3
