package connect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Version is a version of PostgreSQL as server_version_num has it: 150018 is 15.18.
type Version int

// Major is what must not be greater than that of the programs: 15 of 15.18; of versions
// before 10 it is the first number alone.
func (v Version) Major() int { return int(v) / 10000 }

func (v Version) String() string {
	if v < 100000 {
		return fmt.Sprintf("%d.%d.%d", v/10000, v/100%100, v%100)
	}
	return fmt.Sprintf("%d.%d", v/10000, v%10000)
}

// Programs are PostgreSQL's client programs, all of one version. The fields are their
// paths.
type Programs struct {
	Dump, DumpAll, Restore, Psql string
	Version                      Version
}

// programDirs are where PostgreSQL's packages and its own Makefile put programs,
// besides the PATH.
var programDirs = []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql*/bin"}

// Find finds client programs for a server: those of the server's major version, or else
// of the next one after it that there is, since older ones can't read its catalogue and
// newer ones may write what it can't take back. They are looked for in dir if that is
// not empty, else in the directories of PATH and where packages put them.
func Find(ctx context.Context, dir string, server Version) (*Programs, error) {
	dirs := []string{dir}
	if dir == "" {
		dirs = slices.DeleteFunc(filepath.SplitList(os.Getenv("PATH")), func(d string) bool { return d == "" })
		for _, pattern := range programDirs {
			found, err := filepath.Glob(pattern)
			if err != nil {
				return nil, err
			}
			dirs = append(dirs, found...)
		}
	}
	var found []*Programs
	var trouble []error
	for _, d := range dirs {
		p, err := programsIn(ctx, d)
		switch {
		case err == nil:
			found = append(found, p)
		case dir != "" || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errWrapper):
			trouble = append(trouble, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return choose(found, trouble, server)
}

// choose takes the best of the programs found.
func choose(found []*Programs, trouble []error, server Version) (*Programs, error) {
	install := fmt.Sprintf("install version %d of PostgreSQL's client programs (Debian: postgresql-client-%[1]d), or name their directory with --pg-bin", server.Major())
	if len(found) == 0 {
		if len(trouble) > 0 {
			return nil, fmt.Errorf("PostgreSQL's client programs can't be used: %w; %s", errors.Join(trouble...), install)
		}
		return nil, fmt.Errorf("PostgreSQL's client programs (pg_dump, pg_dumpall, pg_restore, psql) are not installed here: %s", install)
	}
	// Newest first, but as far as majors go the oldest that will do.
	best := slices.MinFunc(found, func(a, b *Programs) int {
		aFits, bFits := a.Version.Major() >= server.Major(), b.Version.Major() >= server.Major()
		switch {
		case aFits != bFits && aFits:
			return -1
		case aFits != bFits:
			return 1
		case aFits && a.Version.Major() != b.Version.Major():
			return a.Version.Major() - b.Version.Major()
		}
		return int(b.Version - a.Version)
	})
	if best.Version.Major() < server.Major() {
		return nil, fmt.Errorf("pg_dump is of version %s (%s) and the server of version %s, which an older pg_dump can't dump: %s", best.Version, best.Dump, server, install)
	}
	return best, nil
}

// errWrapper is said of Debian's programs in /usr/bin, which run a version that depends
// on the clusters of this machine. What they stand for is found where Debian puts it.
var errWrapper = errors.New("this is Debian's wrapper, whose version varies: name /usr/lib/postgresql/VERSION/bin")

// programsIn gives the programs in a directory; fs.ErrNotExist if it has no pg_dump.
func programsIn(ctx context.Context, dir string) (*Programs, error) {
	p := &Programs{}
	for name, path := range map[string]*string{"pg_dump": &p.Dump, "pg_dumpall": &p.DumpAll, "pg_restore": &p.Restore, "psql": &p.Psql} {
		*path = filepath.Join(dir, name)
	}
	real, err := filepath.EvalSymlinks(p.Dump)
	if err != nil {
		return nil, err
	}
	if filepath.Base(real) == "pg_wrapper" {
		return nil, fmt.Errorf("%s: %w", p.Dump, errWrapper)
	}
	for _, path := range []string{p.Dump, p.DumpAll, p.Restore, p.Psql} {
		v, err := versionOf(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, withoutNotExist(err))
		}
		if p.Version != 0 && v != p.Version {
			return nil, fmt.Errorf("%s is of version %s and %s of version %s", p.Dump, p.Version, path, v)
		}
		p.Version = v
	}
	return p, nil
}

// withoutNotExist makes another error of "no such file": a directory with some of the
// programs is not one without.
func withoutNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("it is missing beside pg_dump")
	}
	return err
}

// versionOf asks a program for its version: "pg_dump (PostgreSQL) 15.18 (Debian ...)".
func versionOf(ctx context.Context, program string) (Version, error) {
	cmd := exec.CommandContext(ctx, program, "--version")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("asking for its version: %w", err)
	}
	_, text, _ := strings.Cut(string(out), "(PostgreSQL) ")
	major, rest := digits(text)
	minor := 0
	if after, ok := strings.CutPrefix(rest, "."); ok { // "17beta1" has none
		minor, _ = digits(after)
	}
	if major < 10 {
		return 0, fmt.Errorf("it says %q, which is no version from 10 on", strings.TrimSpace(string(out)))
	}
	return Version(major*10000 + minor), nil
}

// digits takes a number off the beginning of a text; 0 if there is none.
func digits(s string) (n int, rest string) {
	end := len(s) - len(strings.TrimLeft(s, "0123456789"))
	n, err := strconv.Atoi(s[:end])
	if err != nil {
		return 0, s
	}
	return n, s[end:]
}
