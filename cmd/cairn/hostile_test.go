package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend/local"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// writer adds a write-only key and opens the repository with it, without the program.
func (w *world) writer(label string) *repo.Repository {
	w.t.Helper()
	recipient := strings.TrimSpace(w.ok("key", "identity", w.path(label+"-id")).out)
	w.ok("key", "add", "--write-only", "--recipient", recipient, "--label", label)
	p, err := os.ReadFile(w.path(label + "-id"))
	if err != nil {
		w.t.Fatal(err)
	}
	key, err := seal.ParseSecretFile(string(p))
	if err != nil {
		w.t.Fatal(err)
	}
	storage, err := local.Open(w.repo)
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := repo.Open(context.Background(), repo.Options{Storage: storage, Secrets: []seal.Unlocker{key}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { r.Close() })
	return r
}

// publish makes a snapshot with a file of the given name, and whatever else it is to say.
func (w *world) publish(r *repo.Repository, host, name string, body snapshot.Body) snapshot.ID {
	w.t.Helper()
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	ctx := context.Background()
	wr, err := r.NewWriter(ctx, repo.WriterOptions{Host: host})
	must(err)
	keys, err := r.WriteKeys()
	must(err)
	b := snapshot.NewBuilder(keys.TreeCut, func(_ context.Context, p []byte) (chunk.ID, error) { return wr.PutNode(chunk.Node, p) })
	must(b.Add(ctx, &snapshot.Entry{Type: snapshot.Directory, Mode: 0o755, User: name, Group: name}))
	must(b.Add(ctx, &snapshot.Entry{Key: snapshot.Key("").Child(name), Type: snapshot.Symlink, Target: []byte(name), User: name, Group: name}))
	lost := snapshot.Extent{Chunk: chunk.ID{1}, ChunkSize: 1, Length: 1}
	must(b.Add(ctx, &snapshot.Entry{Key: snapshot.Key("").Child(name + "~"), Type: snapshot.File, Size: 1, Extents: []snapshot.Extent{lost}}))
	body.Root, err = b.Finish(ctx)
	must(err)
	body.Start, body.End = time.Now(), time.Now()
	id, err := wr.Commit(ctx, repo.NewSnapshot{Time: time.Now(), Host: host, Body: body})
	must(err)
	return id
}

// Whatever a host with a write-only key puts into its snapshots, nothing of it reaches the
// terminal as it is.
func TestHostileSnapshot(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src, "--host", "good")
	const bad = "\x1b]0;owned\x07\x1b[2J\nroot\u202e\x9b"
	text := strings.ToValidUTF8(bad, "")
	id := w.publish(w.writer("evil"), text, bad, snapshot.Body{
		Set: text, User: text, Program: text, Tags: []string{text},
		Sources: []snapshot.Source{{Kind: "files", Name: []byte("/" + bad)}, {Kind: text, Name: []byte(bad)}},
	}).String()
	target := w.path("target")
	for _, line := range [][]string{
		{"snapshots"}, {"snapshots", "--latest", "1"}, {"ls", id}, {"ls", "-lR", id}, {"ls", id + ":/" + bad}, {"find", "*"},
		{"diff", w.ids()[0], id}, {"diff", id, w.ids()[0], "--metadata"}, {"cat", id + ":/" + bad}, {"cat", id + ":/" + bad + "~"},
		{"check"}, {"check", "--read-data"}, {"restore", "latest", "--target", target}, {"restore", id, "--target", target},
		{"restore", "-n", id, "--target", target}, {"stats"}, {"key", "list"},
	} {
		r := w.run(line...)
		for _, sequence := range []string{"\x1b", "\x07", "\u202e", "\x9b", "\nroot"} {
			if strings.Contains(r.out+r.err, sequence) {
				t.Errorf("%q prints %q:\n%q", line, sequence, r.out+r.err)
			}
		}
	}
	// Scripts get it all, as JSON, whose lines stay lines.
	for _, m := range messages(t, w.ok("snapshots", "--json").out) {
		if m["id"] == id && m["host"] != text {
			t.Errorf("the host is %q", m["host"])
		}
	}
}

// A key that takes the name of another host is shown up by all commands that go by
// names.
func TestTwoKeysOfOneHost(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src, "--host", "web")
	if r := w.ok("snapshots"); r.err != "" {
		t.Errorf("a warning without a cause: %s", r.err)
	}
	evil := w.writer("evil")
	w.publish(evil, "web", "x", snapshot.Body{})
	for _, line := range [][]string{{"snapshots"}, {"check"}, {"ls", "latest"}, {"restore", "-n", "latest", "--target", w.path("x")}} {
		r := w.run(line...)
		for _, word := range []string{`host "web" has snapshots by 2 keys`, `"evil"`, "full access"} {
			if !strings.Contains(r.err, word) {
				t.Errorf("%q does not say %q: %s", line, word, r.err)
			}
		}
	}
	signers := make(map[any]bool)
	for _, m := range messages(t, w.ok("snapshots", "--json").out) {
		if m["message_type"] == "snapshot" {
			signers[m["signer"]] = true
		}
	}
	if len(signers) != 2 || signers[nil] {
		t.Errorf("the signers are %v", signers)
	}
}
