package main

import (
	"bufio"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/internal/termui"
)

// sources sorts the arguments into paths, streams and archives.
func (p *program) sources(c *cli.Context, opts *ingest.Options) error {
	if err := oneReader(c); err != nil {
		return err
	}
	for _, a := range c.Args().Slice() {
		scheme, _, hasScheme := strings.Cut(a, "://")
		switch {
		case a == "-":
			opts.Sources = append(opts.Sources, ingest.Stream{Name: c.String("stdin-name"), Reader: p.Stdin})
		case a == "":
			return usagef("a source is empty")
		case hasScheme && hasPassword(a):
			return usagef("the URL of the %s source contains a password, which the process list and the shell's history would show; remove it, and %s",
				scheme, betterWay(scheme))
		case strings.HasPrefix(a, "tar:"):
			t, err := p.tarSource(c, strings.TrimPrefix(a, "tar:"))
			if err != nil {
				return err
			}
			opts.Sources = append(opts.Sources, t)
		case scheme == "postgres" || scheme == "postgresql":
			if err := p.postgresSources(c, a, opts); err != nil {
				return err
			}
		case hasScheme:
			return usagef("source %s: this version of cairn has no %s sources; write ./%s if it is a path", a, scheme, a)
		default:
			opts.Paths = append(opts.Paths, a)
		}
	}
	for _, s := range c.StringSlice("command") {
		name, cmd, ok := strings.Cut(s, "=")
		if !ok || name == "" || strings.TrimSpace(cmd) == "" {
			return usagef("--command %q: want NAME=CMD", s)
		}
		opts.Sources = append(opts.Sources, ingest.Stream{Name: name, Command: cmd, Stderr: p.Stderr})
	}
	if err := p.lists(c, opts); err != nil {
		return err
	}
	if len(opts.Paths)+len(opts.Sources) == 0 {
		return usagef("what to take? give at least one path, -, tar:FILE, postgres://..., or --command")
	}
	return nil
}

// hasPassword reports whether a URL has a password, where URLs have one or
// where people put one. It suspects what it can't read.
func hasPassword(s string) bool {
	u, err := url.Parse(s)
	if err != nil {
		return true
	}
	if _, ok := u.User.Password(); ok {
		return true
	}
	for key := range u.Query() {
		key = strings.ToLower(key)
		if strings.Contains(key, "pass") && key != "passfile" || strings.Contains(key, "secret") {
			return true
		}
	}
	return false
}

// betterWay says how to give a password to what a scheme stands for.
func betterWay(scheme string) string {
	switch scheme {
	case "postgres", "postgresql":
		return "set PGPASSFILE or PGPASSWORD"
	case "redis", "rediss":
		return "set REDISCLI_AUTH"
	}
	return "give it through the environment or a file"
}

// lists adds the paths that lists of files name.
func (p *program) lists(c *cli.Context, opts *ingest.Options) error {
	for _, f := range []struct {
		flag string
		end  byte
	}{{"files-from", '\n'}, {"files-from-raw", 0}} {
		for _, name := range c.StringSlice(f.flag) {
			paths, err := p.listed(name, f.end)
			if err != nil {
				return err
			}
			opts.Paths = append(opts.Paths, paths...)
		}
	}
	return nil
}

// listed reads paths from a file, each of which ends with the byte end. Empty ones
// are passed over.
func (p *program) listed(name string, end byte) ([]string, error) {
	in := p.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read list of files: %w", err)
		}
		defer f.Close()
		in = f
	}
	var paths []string
	r := bufio.NewReader(in)
	for {
		path, err := r.ReadString(end)
		if path = strings.TrimSuffix(path, string(end)); path != "" {
			if end == '\n' && strings.IndexByte(path, 0) >= 0 {
				return nil, usagef("the list of files %s has NUL bytes; if paths end with them, use --files-from-raw", termui.Quote(name))
			}
			paths = append(paths, path)
		}
		if err == io.EOF {
			return paths, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read list of files: %w", err)
		}
	}
}

// oneReader refuses a standard input that is to be several things, before anything is
// read from it.
func oneReader(c *cli.Context) error {
	var users []string
	for _, a := range c.Args().Slice() {
		if a == "-" || a == "tar:-" {
			users = append(users, a)
		}
	}
	for _, flag := range []string{"files-from", "files-from-raw"} {
		for _, name := range c.StringSlice(flag) {
			if name == "-" {
				users = append(users, "--"+flag+" -")
			}
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
	switch {
	case err == nil:
		return &ingest.Tar{Name: filepath.Base(name), Reader: f, Again: rewinding(f)}, nil
	case c.Bool("allow-incomplete"):
		r := unopened{err}
		return &ingest.Tar{Name: filepath.Base(name), Reader: r, Again: func() (io.Reader, error) { return r, nil }}, nil
	}
	return nil, &hintError{fmt.Errorf("open archive: %w", err), "check the path, or use --allow-incomplete to keep what succeeded; no snapshot was made"}
}

// unopened takes the place of an archive that can't be opened: a source that fails.
type unopened struct{ err error }

func (u unopened) Read([]byte) (int, error) {
	return 0, fmt.Errorf("open archive: %v", u.err) // not as one that vanished meanwhile
}

// rewinding returns what goes back to the beginning of a file, nil unless it is a regular
// one: a tape says that it went back, and goes on where it was.
func rewinding(f *os.File) func() (io.Reader, error) {
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil
	}
	return func() (io.Reader, error) {
		_, err := f.Seek(0, io.SeekStart)
		return f, err
	}
}

// closeTars closes the archives that were opened.
func closeTars(opts *ingest.Options) {
	for _, s := range opts.Sources {
		t, ok := s.(*ingest.Tar)
		if !ok {
			continue
		}
		if f, ok := t.Reader.(*os.File); ok && f != os.Stdin {
			f.Close() // only read from
		}
	}
}
