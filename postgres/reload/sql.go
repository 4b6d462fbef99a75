package reload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// SQL writes the database to w as the SQL that pg_restore makes of it, for psql. program is pg_restore, args are
// options for it. If it fails, what was written is not whole.
func (d *Database) SQL(ctx context.Context, program string, args []string, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := exec.CommandContext(ctx, program, append([]string{"--file=-"}, args...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 10 * time.Second
	var errs head
	c.Stdout, c.Stderr = w, &errs
	in, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", program, err)
	}
	written := d.Custom(ctx, in)
	// An archive that breaks off is noticed by pg_restore; it is ended all the same.
	if written != nil && !errors.Is(written, syscall.EPIPE) {
		cancel()
	}
	in.Close()
	ended := c.Wait()
	switch {
	case written != nil && !errors.Is(written, syscall.EPIPE):
		return written
	case ended != nil && errs.String() != "":
		return fmt.Errorf("%s: %w; it said: %s", filepath.Base(program), ended, errs.String())
	case ended != nil:
		return fmt.Errorf("%s: %w", filepath.Base(program), ended)
	case written != nil:
		return fmt.Errorf("%s ended before it had read everything: %w", filepath.Base(program), written)
	}
	return nil
}
