package reload

import (
	"context"
	"io"
)

// SQL writes the database to w as the SQL that pg_restore makes of it, for psql. program
// is pg_restore, args are options for it. If it fails, what was written is not whole.
func (d *Database) SQL(ctx context.Context, program string, args []string, w io.Writer) error {
	// No statement is run, so there is none to stop at.
	s := &Server{Program: program, Args: append([]string{"--file=-"}, args...), KeepGoing: true, out: w}
	return s.pipe(ctx, d)
}
