package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// password opens every repository that bench makes.
const password = "bench"

// places are the directories of one run of a tool.
type places struct {
	source  string // what is backed up
	repo    string
	private string // for caches, keys and temporary files
	target  string // what is restored into
}

// A tool is a backup program, and how to ask it for what bench measures.
type tool struct {
	name     string
	program  string
	version  []string // arguments that print its version
	env      func(places) []string
	init     func(places) []string
	snapshot func(p places, name string) []string
	restore  func(p places, name string) []string
	check    func(places) []string
	keeping  *keeping // nil if it is left out of the workloads forget and prune
}

// command returns a command of the tool, not yet started.
func (t tool) command(ctx context.Context, p places, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, t.program, args...)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "HOME=" + p.private, "TMPDIR=" + p.private,
	}, t.env(p)...)
	cmd.Dir = p.target // borg extracts there
	return cmd
}

// newTool returns the tool of a name, and an error that says how to get it
// where it isn't there.
func newTool(name, cairnPath string) (tool, error) {
	var t tool
	program, hint := name, ""
	switch name {
	case "cairn":
		t, program, hint = cairn(), cairnPath, "make build" // as init makes a repository: fastest
	case "cairn-default":
		t, program, hint = cairn("--compression", "default"), cairnPath, "make build"
		t.keeping = nil // there is nothing to compress, so it would be the same again
	case "restic":
		t, hint = restic(), "apt-get install restic"
	case "borg":
		t, hint = borg(), "apt-get install borgbackup"
	default:
		return t, fmt.Errorf("no tool is called %q: there are cairn, cairn-default, restic and borg", name)
	}
	path, err := exec.LookPath(program)
	if err == nil {
		path, err = filepath.Abs(path) // tools do not run in this directory
	}
	if err != nil {
		return t, fmt.Errorf("%w (%s gets it, -tools leaves it out)", err, hint)
	}
	t.name, t.program = name, path
	return t, nil
}

func cairn(initOptions ...string) tool {
	return tool{
		version: []string{"--version"},
		env: func(p places) []string {
			return []string{"CAIRN_REPOSITORY=" + p.repo, "CAIRN_PASSWORD=" + password, "CAIRN_CACHE_DIR=" + filepath.Join(p.private, "cache")}
		},
		init:     func(places) []string { return append([]string{"init", "-q"}, initOptions...) },
		snapshot: func(p places, _ string) []string { return []string{"snapshot", "-q", p.source} },
		restore:  func(p places, _ string) []string { return []string{"restore", "-q", "latest", "--target", p.target} },
		check:    func(places) []string { return []string{"check", "-q", "--read-data"} },
		keeping:  cairnKeeping(),
	}
}

func restic() tool {
	return tool{
		version: []string{"version"},
		env: func(p places) []string {
			return []string{"RESTIC_REPOSITORY=" + p.repo, "RESTIC_PASSWORD=" + password, "RESTIC_CACHE_DIR=" + filepath.Join(p.private, "cache")}
		},
		// Version 2 is what compresses; older releases default to 1.
		init:     func(places) []string { return []string{"init", "-q", "--repository-version", "2"} },
		snapshot: func(p places, _ string) []string { return []string{"backup", "-q", p.source} },
		restore:  func(p places, _ string) []string { return []string{"restore", "-q", "latest", "--target", p.target} },
		check:    func(places) []string { return []string{"check", "-q", "--read-data"} },
		keeping:  resticKeeping(),
	}
}

func borg() tool {
	return tool{
		version: []string{"--version"},
		env: func(p places) []string {
			return []string{"BORG_REPO=" + p.repo, "BORG_PASSPHRASE=" + password, "BORG_BASE_DIR=" + p.private}
		},
		init:     func(places) []string { return []string{"init", "--encryption", "repokey"} },
		snapshot: func(p places, name string) []string { return []string{"create", "::" + name, p.source} },
		restore:  func(_ places, name string) []string { return []string{"extract", "::" + name} },
		check:    func(places) []string { return []string{"check", "--verify-data"} },
	}
}
