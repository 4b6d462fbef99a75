package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// Kinds of sources, as they stand in manifests. For all but files it is also the
// first component of the path in the snapshot.
const (
	fileSource    = "files"
	stdinSource   = "stdin"
	commandSource = "command"
	tarSource     = "tar"
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

func (s *Stream) kind() string {
	if s.Reader != nil {
		return stdinSource
	}
	return commandSource
}

func (s *Stream) key() (snapshot.Key, error) { return snapshot.KeyOf(s.kind() + "/" + s.Name) }

// checkNames refuses names that are no paths, or where two sources would be in each
// other's way.
func checkNames(streams []Stream, tars []Tar) error {
	seen := make(map[snapshot.Key]bool)
	check := func(what, name string, k snapshot.Key, err error) error {
		switch {
		case name == "":
			return fmt.Errorf("a %s has no name", what)
		case err != nil:
			return fmt.Errorf("name %q of a %s: %w", name, what, err)
		}
		for other := range seen {
			if other == k || other.IsBelow(k) || k.IsBelow(other) {
				return fmt.Errorf("two %ss have the name %q", what, name)
			}
		}
		seen[k] = true
		return nil
	}
	for i := range streams {
		s := &streams[i]
		k, err := s.key()
		if err == nil && s.Reader == nil && s.Command == "" {
			err = errors.New("there is neither a reader nor a command")
		}
		if err := check("stream", s.Name, k, err); err != nil {
			return err
		}
	}
	for i := range tars {
		k, err := tars[i].key()
		if err := check("tar archive", tars[i].Name, k, err); err != nil {
			return err
		}
	}
	return nil
}

// produce is the first stage of the pipeline: all sources in key order.
func (p *pipeline) produce() error {
	if len(p.targets.paths) > 0 {
		if err := p.walkFiles(); err != nil {
			return err
		}
	}
	streams := slices.Clone(p.opts.Streams)
	slices.SortFunc(streams, func(a, b Stream) int {
		ka, _ := a.key() // checked before
		kb, _ := b.key()
		return strings.Compare(string(ka), string(kb))
	})
	var last snapshot.Key
	for i := range streams {
		k, _ := streams[i].key()
		if err := p.parents(last, k); err != nil {
			return err
		}
		if err := p.stream(&streams[i], k); err != nil {
			return err
		}
		last = k
	}
	// The kind of archives is the last in the order of keys.
	for i := range p.trees {
		t := &p.trees[i]
		if t.tar == nil {
			continue
		}
		if err := p.parents(last, t.key); err != nil {
			return err
		}
		if err := p.archive(t); err != nil {
			return err
		}
		last = t.key
	}
	p.opts.Observer.Progress.WalkFinished.Store(true)
	p.parent.finish(p.ctx)
	if p.parent != nil {
		p.totals.Removed = p.parent.removed
	}
	return nil
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

// stream takes one stream. If it fails, the source has failed and nothing of
// it is in the tree: half a dump is no dump.
func (p *pipeline) stream(s *Stream, key snapshot.Key) error {
	src := snapshot.Source{Kind: s.kind(), Name: []byte(s.Name)}
	if s.Command != "" {
		src.Attributes = map[string][]byte{"command": []byte(s.Command)}
	}
	e := snapshot.Entry{
		Key: key, Type: snapshot.File, Mode: 0o644, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
		Mtime: p.now(), Ctime: p.now(),
	}
	old := p.parent.copyOf(p.ctx, key)
	err := p.read(s, &e, old)
	var failed *readError
	switch {
	case p.ctx.Err() != nil: // nothing has failed but the run was ended
		return p.ctx.Err()
	case err == nil:
		j := p.newJob()
		j.add(e, p.change(key))
		src.Totals.Files, src.Totals.Bytes = 1, e.Size
		p.opts.Observer.Progress.Files.Add(1)
		p.opts.Observer.Progress.Bytes.Add(int64(e.Size))
		if err := p.dispatch(j); err != nil {
			return err
		}
	case errors.As(err, &failed):
		src.Status = snapshot.Failed
		p.report(key, failed.err, true)
	default:
		return err
	}
	p.sources = append(p.sources, src)
	return nil
}

// read stores what a stream delivers.
func (p *pipeline) read(s *Stream, e, old *snapshot.Entry) error {
	if s.Reader == nil {
		return p.command(s, e, old)
	}
	r := interruptible(p.ctx, s.Reader)
	defer r.Close()
	var err error
	e.Size, err = p.contents(e, old, r, nil, p.putLater)
	return err
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

// command stores what a command prints. The end of its output proves
// nothing: only its exit status does.
func (p *pipeline) command(s *Stream, e, old *snapshot.Entry) error {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	c := exec.CommandContext(ctx, "/bin/sh", "-c", s.Command)
	c.Stderr = s.Stderr
	// In a group of its own, so that a whole pipeline of commands can be ended.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGTERM) }
	c.WaitDelay = 5 * time.Second
	out, err := c.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start command %s: %w", s.Name, err)
	}
	if err := c.Start(); err != nil {
		return &readError{fmt.Errorf("start command: %w", err)}
	}
	size, err := p.contents(e, old, out, nil, p.putLater)
	e.Size = size
	if err != nil {
		cancel()
		c.Wait() // its status tells nothing now: it was ended
		return err
	}
	if err := c.Wait(); err != nil {
		return &readError{fmt.Errorf("command failed: %w", err)}
	}
	return nil
}
