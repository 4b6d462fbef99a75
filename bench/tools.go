package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// password opens every repository that bench makes.
const password = "bench"

// places are the directories of one run of a tool.
type places struct {
	source  string // what is backed up
	stream  string // a file in it that is read from the standard input instead, or ""
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
	setUp    func(places) []string // once after init and unmeasured; may be nil
	snapshot func(p places, name string) []string
	restore  func(p places, name string) []string // nil: it has only a first snapshot
	streamed func(places) string                  // where restore puts what was read from the standard input
	check    func(places) []string
	keeping  *keeping // nil if it is left out of the workloads forget and prune
}

// toolNames are the tools to compare, in the order of the columns.
var toolNames = []string{"cairn", "cairn-default", "restic", "borg", "kopia"}

// findTools finds the tools of a list of names, which must be there; or, if the list is empty,
// all that are there but cairn, which must be.
func (c *config) findTools(names, cairnPath string, log io.Writer) error {
	list := strings.Split(names, ",")
	if names == "" {
		list = toolNames
	}
	for _, name := range list {
		t, err := newTool(name, cairnPath)
		if names == "" && errors.Is(err, exec.ErrNotFound) && !strings.HasPrefix(name, "cairn") {
			fmt.Fprintf(log, "LEFT OUT: %v\n", err)
			c.missing = append(c.missing, name)
			continue
		}
		if err != nil {
			return err
		}
		c.tools = append(c.tools, t)
	}
	t, err := archiver()
	if err != nil {
		fmt.Fprintf(log, "LEFT OUT: %v\n", err)
		c.missing = append(c.missing, archiverName)
		return nil
	}
	c.archivers = append(c.archivers, t)
	return nil
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
	case "kopia":
		t, hint = kopia(), "https://kopia.io"
	default:
		return t, fmt.Errorf("no tool is called %q: there are %s", name, strings.Join(toolNames, ", "))
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

// streamName is what the standard input is called in snapshots.
const streamName = "stream"

func streamedToTop(p places) string { return filepath.Join(p.target, streamName) }

func cairn(initOptions ...string) tool {
	return tool{
		version: []string{"--version"},
		env: func(p places) []string {
			return []string{"CAIRN_REPOSITORY=" + p.repo, "CAIRN_PASSWORD=" + password, "CAIRN_CACHE_DIR=" + filepath.Join(p.private, "cache")}
		},
		init: func(places) []string { return append([]string{"init", "-q"}, initOptions...) },
		snapshot: func(p places, _ string) []string {
			if p.stream != "" {
				return []string{"snapshot", "-q", "-", "--stdin-name", streamName}
			}
			return []string{"snapshot", "-q", p.source}
		},
		restore:  func(p places, _ string) []string { return []string{"restore", "-q", "latest", "--target", p.target} },
		streamed: func(p places) string { return filepath.Join(p.target, "stdin", streamName) },
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
		init: func(places) []string { return []string{"init", "-q", "--repository-version", "2"} },
		snapshot: func(p places, _ string) []string {
			if p.stream != "" {
				return []string{"backup", "-q", "--stdin", "--stdin-filename", streamName}
			}
			return []string{"backup", "-q", p.source}
		},
		restore:  func(p places, _ string) []string { return []string{"restore", "-q", "latest", "--target", p.target} },
		streamed: streamedToTop,
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
		init: func(places) []string { return []string{"init", "--encryption", "repokey"} },
		snapshot: func(p places, name string) []string {
			if p.stream != "" {
				return []string{"create", "--stdin-name", streamName, "::" + name, "-"}
			}
			return []string{"create", "::" + name, p.source}
		},
		restore:  func(_ places, name string) []string { return []string{"extract", "--sparse", "::" + name} },
		streamed: streamedToTop,
		check:    func(places) []string { return []string{"check", "--verify-data"} },
	}
}

// kopia compresses nothing unless its policy says so, with which it would be compared for
// nothing: it gets zstd's fastest level, as cairn has.
func kopia() tool {
	return tool{
		version: []string{"--version"},
		env: func(p places) []string {
			return []string{
				"KOPIA_PASSWORD=" + password, "KOPIA_CHECK_FOR_UPDATES=false",
				"KOPIA_CONFIG_PATH=" + filepath.Join(p.private, "kopia.config"),
				"KOPIA_CACHE_DIRECTORY=" + filepath.Join(p.private, "cache"), "KOPIA_LOG_DIR=" + filepath.Join(p.private, "log"),
			}
		},
		init:  func(p places) []string { return []string{"repository", "create", "filesystem", "--path", p.repo} },
		setUp: func(places) []string { return []string{"policy", "set", "--global", "--compression", "zstd-fastest"} },
		snapshot: func(p places, _ string) []string {
			args := []string{"snapshot", "create", "--no-progress", p.source}
			if p.stream != "" {
				args = append(args, "--stdin-file", streamName)
			}
			return args
		},
		// It puts what is in the source into the target.
		restore: func(p places, _ string) []string {
			to := filepath.Join(p.target, p.source)
			if p.stream != "" {
				to = p.target
			}
			return []string{"restore", "--no-progress", "--write-sparse-files", p.source, to}
		},
		streamed: streamedToTop,
		check: func(places) []string {
			return []string{"snapshot", "verify", "--no-progress", "--verify-files-percent=100"}
		},
	}
}

const archiverName = "tar+zstd"

// archiver is tar with zstd's fastest level on all cores: what reading, compressing and
// writing take, without anything that a backup needs besides.
func archiver() (tool, error) {
	for _, program := range []string{"tar", "zstd"} {
		if _, err := exec.LookPath(program); err != nil {
			return tool{}, fmt.Errorf("%s: %w (apt-get install %[1]s gets it)", program, err)
		}
	}
	return tool{
		name: archiverName, program: "/bin/sh", version: []string{"-c", "zstd --version | tr -d '*'"},
		env: func(p places) []string { return []string{"SOURCE=" + p.source, "REPO=" + p.repo} },
		snapshot: func(places, string) []string {
			return []string{"-c", `mkdir "$REPO" && tar -C "$SOURCE" -cf - . | zstd -1 -T0 -q -o "$REPO/archive"`}
		},
	}, nil
}
