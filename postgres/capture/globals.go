package capture

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/cairn-backup/cairn/postgres"
)

// globals delivers roles and tablespaces, which belong to no database but which one needs.
func (r *run) globals(ctx context.Context) error {
	r.record.Globals = postgres.GlobalsNone
	if !r.o.Globals {
		return nil
	}
	args := []string{"--globals-only", "--no-password", "--database=" + connectionString(r.name)}
	r.record.Globals = postgres.GlobalsWhole
	if !r.session.facts.canPasswords {
		r.record.Globals = postgres.GlobalsNoPasswords
		args = append(args, "--no-role-passwords")
	}
	p, err := r.start(ctx, r.programs.DumpAll, args...)
	if err != nil {
		return err
	}
	sql, err := io.ReadAll(unrestricted(p.out))
	if err != nil {
		return errors.Join(err, p.stop())
	}
	if err := p.wait(); err != nil {
		return err
	}
	return r.file(postgres.GlobalsFile, sql)
}

// connectionString names a database such that no name is taken for something else.
func connectionString(db string) string {
	return "dbname='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(db) + "'"
}

// unrestricted leaves out the lines \restrict and \unrestrict with a random word that pg_dump and pg_dumpall write
// around SQL since the mend of CVE-2025-8714: what psql is given later is put between new ones.
func unrestricted(r io.Reader) io.Reader {
	out, in := io.Pipe()
	go func() {
		var word string
		lines := bufio.NewReader(r)
		for {
			line, err := lines.ReadBytes('\n')
			text := string(bytes.TrimRight(line, "\r\n"))
			switch w, ok := strings.CutPrefix(text, `\restrict `); {
			case ok && word == "":
				word, line = w, nil
			case word != "" && text == `\unrestrict `+word:
				line = nil
			}
			if _, werr := in.Write(line); err == nil {
				err = werr
			}
			if err != nil {
				in.CloseWithError(err) // io.EOF is the end
				return
			}
		}
	}()
	return out
}
