package connect

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// serviceFiles are the files that services are looked for in, in this order: the
// user's, and that of the system, which is where PostgreSQL's packager chose.
func serviceFiles() []string {
	var files []string
	if f := os.Getenv("PGSERVICEFILE"); f != "" {
		files = append(files, f)
	} else if home, err := os.UserHomeDir(); err == nil {
		files = append(files, filepath.Join(home, ".pg_service.conf"))
	}
	dirs := []string{"/etc/postgresql-common", "/etc/sysconfig/pgsql", "/etc/postgresql", "/usr/local/pgsql/etc", "/etc"}
	if d := os.Getenv("PGSYSCONFDIR"); d != "" {
		dirs = []string{d}
	}
	for _, d := range dirs {
		files = append(files, filepath.Join(d, "pg_service.conf"))
	}
	return files
}

// readService gives the parameters of a service; found is false if no file has it.
func readService(files []string, service string) (params map[string]string, found bool, err error) {
	for _, file := range files {
		params, found, err = readServiceIn(file, service)
		if found || err != nil {
			return params, found, err
		}
	}
	return nil, false, nil
}

func readServiceIn(file, service string) (params map[string]string, found bool, err error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading a service file: %w", err)
	}
	defer f.Close()
	params = make(map[string]string)
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			if found {
				return params, true, check(params, file)
			}
			found = line == "["+service+"]"
		case found:
			name, value, ok := strings.Cut(line, "=")
			// The line may have a password: it is not shown.
			if !ok || strings.HasPrefix(line, "ldap") || name == "service" || name == "servicefile" {
				return nil, false, fmt.Errorf("%s, line %d: this is no parameter=value that a service may have", file, n)
			}
			if _, ok := params[name]; !ok { // the first one counts
				params[name] = value
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, false, fmt.Errorf("reading service file %s: %w", file, err)
	}
	return params, found, check(params, file)
}

// passfile is a file of passwords, as ~/.pgpass.
type passfile struct {
	lines   [][5]string // host, port, database, user, password; * is any of the first four
	trouble string      // why it was not read; "" if it was, or there is none
}

// readPassfile reads a file of passwords. As libpq it takes none that others may read.
func readPassfile(path string) passfile {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return passfile{}
	case err != nil:
		return passfile{trouble: err.Error()}
	case !st.Mode().IsRegular():
		return passfile{trouble: path + " is not a regular file"}
	case st.Mode().Perm()&0o077 != 0:
		return passfile{trouble: fmt.Sprintf("%s is ignored because others may read it (mode %04o): chmod 0600 it", path, st.Mode().Perm())}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return passfile{trouble: err.Error()}
	}
	var p passfile
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		if fields, ok := splitPassfile(line); ok && !strings.HasPrefix(line, "#") {
			p.lines = append(p.lines, fields)
		}
	}
	return p
}

// splitPassfile splits a line at colons; \ takes the next byte as it is.
func splitPassfile(line string) (fields [5]string, ok bool) {
	n := 0
	var field strings.Builder
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '\\' && i+1 < len(line):
			i++
			field.WriteByte(line[i])
		case line[i] == ':' && n < 4:
			fields[n] = field.String()
			field.Reset()
			n++
		default:
			field.WriteByte(line[i])
		}
	}
	fields[4] = field.String()
	return fields, n == 4
}

// find gives the password of the first line that fits.
func (p passfile) find(host, port, db, user string) (string, bool) {
	for _, l := range p.lines {
		fits := true
		for i, v := range []string{host, port, db, user} {
			fits = fits && (l[i] == "*" || l[i] == v)
		}
		if fits {
			return l[4], true
		}
	}
	return "", false
}
