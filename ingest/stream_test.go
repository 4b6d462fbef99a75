package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/snapshot"
)

// streams makes a snapshot of nothing but streams.
func streams(s ...ingest.Source) func(*ingest.Options) {
	return func(o *ingest.Options) { o.Paths, o.Sources = nil, s }
}

func stdin(name string, contents []byte) ingest.Stream {
	return ingest.Stream{Name: name, Reader: bytes.NewReader(contents)}
}

func command(name, line string) ingest.Stream { return ingest.Stream{Name: name, Command: line} }

// source returns what the snapshot says of a source.
func source(t *testing.T, sources []snapshot.Source, kind, name string) snapshot.Source {
	t.Helper()
	i := slices.IndexFunc(sources, func(s snapshot.Source) bool { return s.Kind == kind && string(s.Name) == name })
	if i < 0 {
		t.Fatalf("there is no source %s %s in %v", kind, name, sources)
	}
	return sources[i]
}

func allowIncomplete(o *ingest.Options) { o.AllowIncomplete = true }

func TestStreams(t *testing.T) {
	w := newWorld(t)
	w.write("file", []byte("x"))
	big := random(1, 4<<20)
	o := w.clean(func(o *ingest.Options) {
		o.Sources = []ingest.Source{
			stdin("z", []byte("last")), stdin("db/dump.sql", big), stdin("db/empty", nil), stdin("db/sub/\xff", []byte("odd")),
			ingest.Stream{Name: "a", Reader: iotest.OneByteReader(strings.NewReader("slowly"))},
			command("c/out", "printf 'out\\000put'"), command("nothing", "true"), command("big", "head -c 3000000 /dev/zero"),
		}
	})
	v := w.view(o.ID)
	for path, want := range map[string][]byte{
		"stdin/z": []byte("last"), "stdin/db/dump.sql": big, "stdin/db/empty": nil, "stdin/db/sub/\xff": []byte("odd"),
		"stdin/a": []byte("slowly"), "command/c/out": []byte("out\x00put"), "command/nothing": nil, "command/big": make([]byte, 3000000),
		w.path("file"): []byte("x"),
	} {
		v.wantContents(path, want)
		e := v.entry(path)
		if got, want := e.Hash, v.contentHash(e, want); e.Type != snapshot.File || got != want {
			t.Errorf("%s is a %s with content hash %x, want %x", path, e.Type, got, want)
		}
	}
	for _, dir := range []string{"stdin", "stdin/db", "stdin/db/sub", "command", "command/c"} {
		if e := v.entry(dir); e.Type != snapshot.Directory {
			t.Errorf("%s is a %s", dir, e.Type)
		}
	}
	if len(o.Sources) != 9 || o.Totals.Files != 9 {
		t.Errorf("%d sources, %d files, want 9", len(o.Sources), o.Totals.Files)
	}
	if s := source(t, o.Sources, "command", "c/out"); s.Status != snapshot.Complete || s.Totals.Bytes != 7 || !strings.HasPrefix(string(s.Attributes["command"]), "printf") {
		t.Errorf("the source is %+v", s)
	}
}

func TestStreamAgain(t *testing.T) {
	w := newWorld(t)
	big := random(1, 4<<20)
	w.clean(streams(stdin("x", big)))
	packs := w.dataPacks()
	o := w.clean(streams(stdin("x", slices.Concat([]byte("a little more"), big))))
	if o.Totals.Changed != 1 || o.Totals.NewRaw > 1<<20 || w.dataPacks() == packs || w.dataPacks() > packs+2 { // each worker has a pack
		t.Errorf("totals are %+v", o.Totals)
	}
}

func TestFailedStreams(t *testing.T) {
	broken := errors.New("broken")
	failing := func(n int) ingest.Stream {
		return ingest.Stream{Name: "bad/one", Reader: io.MultiReader(bytes.NewReader(random(1, n)), iotest.ErrReader(broken))}
	}
	tests := []struct {
		name   string
		stream ingest.Stream
		says   string
	}{
		{"at once", failing(0), "broken"},
		{"soon", failing(100), "broken"},
		{"after many chunks", failing(4 << 20), "broken"},
		{"truncated", ingest.Stream{Name: "bad/one", Reader: iotest.ErrReader(io.ErrUnexpectedEOF)}, "unexpected EOF"},
		{"idle", ingest.Stream{Name: "bad/one", Reader: iotest.ErrReader(io.ErrNoProgress)}, "no data or error"},
		{"status", command("bad/one", "echo output; exit 3"), "exit status 3"},
		{"status after much", command("bad/one", "head -c 2000000 /dev/zero; exit 1"), "exit status 1"},
		{"killed", command("bad/one", "echo output; kill -KILL $$"), "killed"},
		{"unknown", command("bad/one", "no-such-command-anywhere 2>/dev/null"), "exit status 127"},
		{"last of a pipeline", command("bad/one", "echo x | false"), "exit status 1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.write("file", []byte("x"))
			edit := func(o *ingest.Options) { o.Sources = []ingest.Source{test.stream, stdin("good", []byte("good"))} }
			if _, err := w.try(t.Context(), edit); !errors.Is(err, ingest.ErrIncomplete) {
				t.Fatalf("the error is %v, want ErrIncomplete", err)
			}
			if left := append(w.names("snapshots/"), w.names("leases/")...); len(left) > 0 {
				t.Fatalf("%q is there", left)
			}

			if test.stream.Reader != nil {
				test.stream.Reader = io.MultiReader(strings.NewReader("again"), iotest.ErrReader(errors.New(test.says)))
			}
			o := w.snap(edit, allowIncomplete)
			v := w.view(o.ID)
			kind := "stdin"
			if test.stream.Command != "" {
				kind = "command"
			}
			if _, ok := v.entries[kind+"/bad/one"]; ok {
				t.Error("half of the failed stream is in the snapshot")
			}
			v.wantContents("stdin/good", []byte("good"))
			v.wantContents(w.path("file"), []byte("x"))
			sources := v.info.Body.Sources
			if s := source(t, sources, kind, "bad/one"); s.Status != snapshot.Failed {
				t.Errorf("the failed source is %+v", s)
			}
			if s := source(t, sources, "stdin", "good"); s.Status != snapshot.Complete {
				t.Errorf("the good source is %+v", s)
			}
			if !o.Partial || v.info.Open.Flags&snapshot.Incomplete == 0 {
				t.Errorf("partial %t, flags %x", o.Partial, v.info.Open.Flags)
			}
			if p := o.problem(t, kind+"/bad/one"); !p.fatal || !strings.Contains(p.err.Error(), test.says) {
				t.Errorf("the problem is %v, fatal %t; want %q", p.err, p.fatal, test.says)
			}
		})
	}
}

// TestPipelineStatus documents what sh says of a pipeline: the status of its
// last command. Who wants to know of the others says so.
func TestPipelineStatus(t *testing.T) {
	w := newWorld(t)
	v := w.view(w.clean(streams(command("x", "false | cat"))).ID)
	v.wantContents("command/x", nil)
	_, err := w.try(t.Context(), streams(command("x", "set -e; x=$(mktemp -u); false > /dev/null; echo not reached")))
	if !errors.Is(err, ingest.ErrIncomplete) {
		t.Errorf("set -e: %v", err)
	}
}

func TestCommandStderr(t *testing.T) {
	w := newWorld(t)
	var messages bytes.Buffer
	s := command("x", "echo message >&2; echo output")
	s.Stderr = &messages
	w.view(w.clean(streams(s)).ID).wantContents("command/x", []byte("output\n"))
	if messages.String() != "message\n" {
		t.Errorf("messages are %q", messages.String())
	}
}

func TestStreamNames(t *testing.T) {
	w := newWorld(t)
	r := strings.NewReader("")
	for _, names := range [][]string{
		{""}, {"/x"}, {"a//b"}, {"."}, {"a/../b"}, {"a\x00b"}, {strings.Repeat("n", 256)},
		{"x", "x"}, {"x", "x/"}, {"x", "x/y"}, {"a/b/c", "a/b"},
	} {
		var all []ingest.Source
		for _, n := range names {
			all = append(all, ingest.Stream{Name: n, Reader: r})
		}
		if _, err := w.try(t.Context(), streams(all...)); err == nil {
			t.Errorf("names %q were taken", names)
		}
	}
	if _, err := w.try(t.Context(), streams(ingest.Stream{Name: "x"})); err == nil {
		t.Error("a stream without a source was taken")
	}
	o := w.clean(streams(stdin("x", []byte("1")), command("x", "echo 2"), stdin("xy", nil), stdin("dir/", []byte("3"))))
	v := w.view(o.ID)
	v.wantContents("stdin/x", []byte("1"))
	v.wantContents("command/x", []byte("2\n"))
	v.wantContents("stdin/dir", []byte("3"))
}

// settles waits until there are no more than n goroutines.
func settles(t *testing.T, n int) {
	t.Helper()
	for range 500 {
		if runtime.NumGoroutine() <= n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	buf := make([]byte, 1<<20)
	t.Errorf("%d goroutines, before there were %d\n%s", runtime.NumGoroutine(), n, buf[:runtime.Stack(buf, true)])
}

// endedStream cancels a snapshot of one stream once its source says that it
// began, and checks what stays behind.
func (w *world) endedStream(s ingest.Stream, began <-chan struct{}) {
	w.Helper()
	ctx, cancel := context.WithCancel(w.Context())
	defer cancel()
	done := make(chan error)
	go func() {
		_, err := w.try(ctx, streams(s), allowIncomplete)
		done <- err
	}()
	<-began
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			w.Errorf("the error is %v", err)
		}
	case <-time.After(30 * time.Second):
		w.Fatal("a cancelled snapshot does not end")
	}
	if left := append(w.names("snapshots/"), w.names("leases/")...); len(left) > 0 {
		w.Errorf("%q is there", left)
	}
}

func TestCancelledReader(t *testing.T) {
	w := newWorld(t)
	before := runtime.NumGoroutine()
	r, in := io.Pipe()
	began := make(chan struct{})
	go func() {
		_, _ = in.Write(random(1, 1<<20))
		close(began)
	}()
	w.endedStream(ingest.Stream{Name: "x", Reader: r}, began)
	in.Close() // what still waits in Read gets away
	settles(t, before)
}

func TestCancelledCommand(t *testing.T) {
	w := newWorld(t)
	before := runtime.NumGoroutine()
	said := make(lines, 1)
	s := command("x", "sleep 1000 & echo $! >&2; wait")
	s.Stderr = said
	began := make(chan struct{})
	var child int
	go func() {
		defer close(began)
		var err error
		if child, err = strconv.Atoi(strings.TrimSpace(<-said)); err != nil {
			t.Error(err)
		}
	}()
	w.endedStream(s, began)
	settles(t, before)
	// Its children ended too, or wait for somebody to take note.
	var stat []byte
	for range 500 {
		var err error
		stat, err = os.ReadFile("/proc/" + strconv.Itoa(child) + "/stat")
		if err != nil || bytes.Contains(stat, []byte(") Z ")) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("the command's child still runs: %s", stat)
}

// lines passes on what is written.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}
