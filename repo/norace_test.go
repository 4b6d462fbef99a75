//go:build !race

package repo_test

const step = 1
