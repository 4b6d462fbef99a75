package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/ingest"
)

// oneReader refuses a standard input that is to be two things.
func (p *program) oneReader(c *cli.Context, opts *ingest.Options) error {
	var users []string
	for _, s := range opts.Streams {
		if s.Reader == p.Stdin {
			users = append(users, "-")
		}
	}
	for _, t := range opts.Tars {
		if t.Reader == p.Stdin {
			users = append(users, "tar:-")
		}
	}
	for _, f := range c.StringSlice("files-from") {
		if f == "-" {
			users = append(users, "--files-from -")
		}
	}
	if len(users) > 1 {
		return usagef("the standard input can be read once, and not for %s", strings.Join(users, " and "))
	}
	return nil
}

// tarSource opens an archive.
func (p *program) tarSource(c *cli.Context, name string) (*ingest.Tar, error) {
	switch name {
	case "":
		return nil, usagef("tar: what file? give tar:FILE, or tar:- for the standard input")
	case "-":
		return &ingest.Tar{Name: c.String("stdin-name"), Reader: p.Stdin}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, &hintError{fmt.Errorf("open archive: %w", err), "check the path; no snapshot was made"}
	}
	return &ingest.Tar{Name: filepath.Base(name), Reader: f}, nil
}

// closeTars closes the archives that were opened.
func closeTars(opts *ingest.Options) {
	for _, t := range opts.Tars {
		if f, ok := t.Reader.(*os.File); ok && f != os.Stdin {
			f.Close() // only read from
		}
	}
}
