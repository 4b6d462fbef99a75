package ingest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// Stream is a source that becomes one file: what a reader delivers, or what a
// command prints.
type Stream struct {
	// Name is the file's name; it may have several components.
	Name string
	// Reader is the standard input, say. Nil for a command. It may still be
	// read from when Snapshot has returned because its context was done.
	Reader io.Reader
	// Command is given to the shell. It must end with status 0, or the source
	// has failed.
	Command string
	// Stderr is where the command's messages go; nil drops them.
	Stderr io.Writer
}

// Place says that what a reader delivers is at stdin/NAME, and what a command prints at
// command/NAME.
func (s Stream) Place() (kind, name string) {
	if s.Reader != nil {
		return stdinSource, s.Name
	}
	return commandSource, s.Name
}

func (s Stream) validate() error {
	if s.Reader == nil && s.Command == "" {
		return fmt.Errorf("stream %q has neither a reader nor a command", s.Name)
	}
	return nil
}

// Rewind is refused. A command may have effects besides its output, so it is for the user to run
// it twice.
func (s Stream) Rewind() error {
	if s.Reader == nil {
		return fmt.Errorf("the command for %q may have other effects too, and is not run twice", s.Name)
	}
	return fmt.Errorf("stream %q can be read only once", s.Name)
}

// Capture delivers the stream as one file.
func (s Stream) Capture(ctx context.Context, to *Sink) error {
	key, err := to.Key("")
	if err != nil {
		return err
	}
	e := snapshot.Entry{Key: key, Mode: 0o644, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Mtime: to.Now(), Ctime: to.Now()}
	if s.Reader == nil {
		to.Describe("command", []byte(s.Command))
		return s.command(ctx, e, to)
	}
	r := interruptible(ctx, s.Reader)
	defer r.Close()
	_, err = to.File(e, r)
	return err
}

// parents adds the directories above key that are not above last too.
func (p *pipeline) parents(last, key snapshot.Key) error {
	j := p.newJob()
	parts := strings.Split(string(key), "\x00")
	for n := 1; n < len(parts); n++ {
		dir := snapshot.Key(strings.Join(parts[:n], "\x00"))
		if last != "" && last.IsBelow(dir) {
			continue
		}
		e := snapshot.Entry{Key: dir, Type: snapshot.Directory, Mode: 0o755, Mtime: p.now(), Ctime: p.now()}
		j.add(e, p.change(dir))
	}
	if len(j.entries) == 0 {
		return nil
	}
	return p.dispatch(j)
}

func (p *pipeline) now() snapshot.Time { return snapshot.Time(fsmeta.TimeOf(p.start)) }

func (p *pipeline) change(key snapshot.Key) Change {
	if p.parent.find(p.ctx, key) != nil {
		return Changed
	}
	return New
}

// interruptible returns a reader that fails when ctx is done, even while r
// keeps its caller waiting, as a terminal or an idle pipe does. Such a call of r.Read
// is left alone with its buffer until it returns.
func interruptible(ctx context.Context, r io.Reader) io.ReadCloser {
	out, in := io.Pipe()
	stop := context.AfterFunc(ctx, func() { out.CloseWithError(ctx.Err()) })
	go func() {
		defer stop()
		// Hidden behind plain interfaces, or the copy would choose its own buffer.
		_, err := io.CopyBuffer(struct{ io.Writer }{in}, struct{ io.Reader }{r}, make([]byte, 256<<10))
		in.CloseWithError(err) // nil is io.EOF
	}()
	return out
}

// command delivers what a command prints. The end of its output proves
// nothing: only its exit status does.
func (s Stream) command(ctx context.Context, e snapshot.Entry, to *Sink) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := exec.CommandContext(ctx, "/bin/sh", "-c", s.Command)
	c.Stderr = s.Stderr
	// In a group of its own, so that a whole pipeline of commands can be ended.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGTERM) }
	c.WaitDelay = 5 * time.Second
	out, err := c.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start command: %w", err)
	}
	if err := c.Start(); err != nil {
		return fmt.Errorf("start command: %w", err)
	}
	if _, err := to.File(e, out); err != nil {
		cancel()
		c.Wait() // its status tells nothing now: it was ended
		return err
	}
	if err := c.Wait(); err != nil {
		return fmt.Errorf("command failed: %w", err)
	}
	return nil
}
