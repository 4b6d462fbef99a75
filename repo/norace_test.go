//go:build !race

package repo_test

const racing = false

const step = 1
