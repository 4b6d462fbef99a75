package restore_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/internal/need"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/restore"
	"github.com/cairn-backup/cairn/snapshot"
)

// tar writes an archive and demands success.
func (f *fixture) tar(o restore.Options) ([]byte, *restore.Result, *events) {
	f.Helper()
	p, res, ev, err := f.tryTar(o)
	if err != nil {
		f.Fatalf("tar: %v; problems: %v", err, ev.problems)
	}
	return p, res, ev
}

func (f *fixture) tryTar(o restore.Options) ([]byte, *restore.Result, *events, error) {
	ev := new(events)
	o.Observer = ev.observer()
	var b bytes.Buffer
	res, err := restore.Tar(f.Context(), f.repo, o, &b)
	return b.Bytes(), res, ev, err
}

// runIn runs a program with an input and returns its error with what it said.
func runIn(dir string, in []byte, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %q: %w: %s", name, args, err, out)
	}
	return string(out), err
}

// extractors are programs that extract an archive from their standard input.
var extractors = map[string][]string{
	"GNU tar": {"tar", "--xattrs", "--xattrs-include=*", "--acls", "-xpf", "-"},
	"bsdtar":  {"bsdtar", "--xattrs", "--acls", "-xpf", "-"},
}

// lockable returns a new directory that can be removed even if a user may not write in
// those below it.
func (f *fixture) lockable() string {
	dir := f.TempDir()
	f.Cleanup(func() { exec.Command("chmod", "-R", "u+rwX", dir).Run() })
	return dir
}

// extract extracts an archive into a new directory.
func (f *fixture) extract(program string, archive []byte) (string, error) {
	f.Helper()
	dir := f.lockable()
	e := extractors[program]
	_, err := runIn(dir, archive, e[0], e[1:]...)
	return dir, err
}

// sameTrees compares two directories with rsync, which has no code with us in common: names,
// types, contents, modes, owners, times to the nanosecond, hard links, ACLs and attributes.
func (f *fixture) sameTrees(what, got, want string) {
	f.Helper()
	out, err := runIn("", nil, "rsync", "-aHAXnic", "--modify-window=-1", "--delete", want+"/", got+"/")
	f.must(err)
	// bsdtar sets no times of the directory that it extracts into.
	out = strings.TrimPrefix(out, ".d..t...... ./\n")
	if out != "" {
		f.Errorf("%s: the trees differ:\n%s", what, out)
	}
}

func needTar(t *testing.T) { need.Commands(t, "tar", "bsdtar", "rsync", "setfacl", "zstd", "chmod") }

// fillForTar puts more into the source, of what tars have their own ways for.
func (f *fixture) fillForTar() {
	f.Helper()
	f.fill()
	f.write("acl/in", []byte("x"))
	f.write("attr", []byte("x"))
	for _, args := range [][]string{
		{"-m", "u:1234:r,g:65533:rwx", f.path("acl/in")}, {"-m", "u:1234:rwx", f.path("acl")}, {"-d", "-m", "u:1234:rx", f.path("acl")},
	} {
		_, err := runIn("", nil, "setfacl", args...)
		f.must(err)
	}
	for name, value := range map[string]string{"user.empty": "", "user.a=b": "=", "user.100%": "%", "user.binary": "\x00\xff\n\x00", "user.long": strings.Repeat("v", 2000)} {
		f.must(unix.Setxattr(f.path("attr"), name, []byte(value), 0))
	}
	f.must(os.Symlink(strings.Repeat("far/", 60)+"\xff", f.path("long link")))
	f.must(os.Link(f.path("long link"), f.path("odd/its other name")))
	f.must(unix.Mkfifo(f.path("odd/pipe"), 0o600))
	f.must(os.Link(f.path("odd/pipe"), f.path("pipe")))
	f.must(os.Link(f.path("deep/"+strings.Repeat("d/", 150)+"bottom"), f.path("odd/\xfebottom")))
	sparse, err := os.Create(f.path("sparse"))
	f.must(err)
	for at := int64(0); at < 2<<20; at += 1 << 18 {
		_, err := sparse.WriteAt([]byte("data between holes"), at+12345)
		f.must(err)
	}
	f.must(errors.Join(sparse.Truncate(2<<20), sparse.Close()))
	if os.Geteuid() == 0 {
		f.must(os.Chown(f.path("small"), 4000000000, 3000000000))
		f.must(unix.Setxattr(f.path("attr"), "trusted.kept", []byte("by root"), 0))
	}
}

// What goes out extracts to what came in, whoever extracts it.
func TestTar(t *testing.T) {
	needTar(t)
	f := newFixture(t)
	f.fillForTar()
	s := f.snapshot(ingest.Options{})
	p, res, ev := f.tar(restore.Options{Snapshot: s, Path: f.source})
	if res.Links != 6 || res.Damaged+res.Problems+res.LostNodes != 0 || len(ev.warnings) > 0 {
		t.Errorf("result %+v, warnings %v", res, ev.warnings)
	}
	if int64(len(ev.actions)) != res.Files+res.Directories+res.Others+res.Links {
		t.Errorf("%d entries were named, the result is %+v", len(ev.actions), res)
	}
	for program := range extractors {
		dir, err := f.extract(program, p)
		f.must(err)
		if program == "bsdtar" {
			f.forgive(dir)
		}
		f.sameTrees(program, dir, f.source)
	}
}

// forgive sets right what bsdtar 3.6 extracts wrongly, also of its own archives, so that all
// else can be compared: it adds the fraction of a time before 1970, and takes the name of an
// attribute for what GNU tar has to write for one with =.
func (f *fixture) forgive(dir string) {
	f.Helper()
	for _, name := range beforeEpoch[:len(beforeEpoch)-1] { // not of the directory itself
		var st unix.Stat_t
		f.must(unix.Lstat(filepath.Join(dir, name), &st))
		if want := unix.NsecToTimespec(epochTime.UnixNano()); st.Mtim == want {
			f.Errorf("bsdtar can extract times before 1970; then this should be tested: %s", name)
		}
		f.must(os.Chtimes(filepath.Join(dir, name), epochTime, epochTime))
	}
	value := make([]byte, 10)
	n, err := unix.Getxattr(filepath.Join(dir, "attr"), "user.a%3Db", value)
	f.must(err)
	f.must(unix.Removexattr(filepath.Join(dir, "attr"), "user.a%3Db"))
	f.must(unix.Setxattr(filepath.Join(dir, "attr"), "user.a=b", value[:n], 0))
}

// What programs put into an archive comes out as they themselves extract it.
func TestTarFromPrograms(t *testing.T) {
	needTar(t)
	f := newFixture(t)
	f.fillForTar()
	for _, name := range []string{"list", "twice", "zeros"} { // many bytes that show nothing here
		f.must(os.Remove(f.path(name)))
	}
	// Programs differ on fractions before 1970: TestTar has them.
	for _, name := range beforeEpoch {
		if name != "list" {
			f.must(os.Chtimes(f.path(name), epochTime.Truncate(time.Second), epochTime.Truncate(time.Second)))
		}
	}
	for _, test := range []struct {
		name    string
		command string // writes an archive of the directory that it runs in
		program string // to extract it; bsdtar can't extract all that it writes itself
		partly  bool   // the format can't hold everything, so the command fails
	}{
		{"GNU", "tar --format=gnu --sparse -cf - .", "GNU tar", false},
		{"old GNU, incremental", "tar --format=oldgnu --listed-incremental=$T/list -cf - . 2>/dev/null", "GNU tar", false},
		{"PAX", "tar --format=pax --xattrs --acls -cf - .", "GNU tar", false},
		{"PAX with names only", "tar --format=pax -cf - --transform 's,^\\./,,' .", "GNU tar", false},
		{"sparse 0.0", "tar --format=pax --xattrs --acls --sparse --sparse-version=0.0 -cf - .", "GNU tar", false},
		{"sparse 0.1", "tar --format=pax --xattrs --acls --sparse --sparse-version=0.1 -cf - .", "GNU tar", false},
		{"sparse 1.0", "tar --format=pax --xattrs --acls --sparse --sparse-version=1.0 -cf - . | zstd -q", "GNU tar", false},
		{"ustar", "tar --format=ustar -cf - . | gzip", "GNU tar", true},
		{"v7", "tar --format=v7 -cf - .", "GNU tar", true},
		{"bsdtar's PAX", "bsdtar --format=pax --xattrs --acls -cf - .", "", true},
		{"bsdtar's GNU", "bsdtar --format=gnutar -cf - .", "bsdtar", true},
		{"appended", "tar -cf $T/a . && echo new >small && tar -rf $T/a ./small && cat $T/a", "GNU tar", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := *f
			f.T = t
			cmd := exec.Command("sh", "-c", test.command)
			cmd.Dir, cmd.Env = f.source, append(os.Environ(), "T="+t.TempDir())
			p, err := cmd.Output()
			if err != nil && !test.partly {
				t.Fatal(err)
			}
			want, program := f.source, "GNU tar"
			if test.program != "" {
				program = test.program
				want, err = f.extract(program, unpacked(t, p))
				f.must(err)
			}
			s := f.snapshotTar(p)
			got := filepath.Join(f.lockable(), "out") // which is made by the restore, so it gets the metadata
			f.restore(restore.Options{Snapshot: s, Path: "tar/x", Target: got})
			f.sameTrees("restored", got, want)
			out, _, _ := f.tar(restore.Options{Snapshot: s, Path: "tar/x"})
			again, err := f.extract(program, out)
			f.must(err)
			f.sameTrees("as an archive again", again, want)
		})
	}
}

// unpacked decompresses an archive as a shell would.
func unpacked(t *testing.T, p []byte) []byte {
	t.Helper()
	var program string
	switch {
	case bytes.HasPrefix(p, []byte("\x1f\x8b")):
		program = "gzip"
	case bytes.HasPrefix(p, []byte("\x28\xb5\x2f\xfd")):
		program = "zstd"
	default:
		return p
	}
	out, err := runIn("", p, program, "-dc")
	if err != nil {
		t.Fatal(err)
	}
	return []byte(out)
}

// snapshotTar makes a snapshot of an archive, at tar/x.
func (f *fixture) snapshotTar(p []byte) *repo.Snapshot {
	f.Helper()
	var problems []string
	res, err := ingest.Snapshot(f.Context(), f.repo, ingest.Options{
		Host: "host", Sources: []ingest.Source{&ingest.Tar{Name: "x", Reader: bytes.NewReader(p)}},
		Observer: ingest.Observer{Problem: func(path string, err error, fatal bool) {
			problems = append(problems, fmt.Sprintf("%q: %v (fatal %t)", path, err, fatal))
		}},
	})
	if err != nil || len(problems) > 0 {
		f.Fatalf("%v, problems %q", err, problems)
	}
	return f.load(res.ID)
}

// names returns the names in an archive, in its order, as package tar of the standard
// library reads it.
func names(t *testing.T, p []byte) (names []string) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(p))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		name := h.Name
		if h.Typeflag == tar.TypeLink {
			name += " -> " + h.Linkname
		}
		names = append(names, name)
	}
}

func TestTarSelection(t *testing.T) {
	f := newFixture(t)
	f.write("a/1.txt", []byte("1"))
	f.write("a/b/2.txt", []byte("2"))
	f.write("a/b/3.o", []byte("3"))
	f.must(os.Link(f.path("a/1.txt"), f.path("z.txt")))
	f.must(os.Link(f.path("a/1.txt"), f.path("y.o")))
	s := f.snapshot(ingest.Options{Paths: []string{f.source}, Sources: []ingest.Source{ingest.Stream{Name: "dump", Reader: strings.NewReader("d")}}})
	top := strings.TrimPrefix(f.source, "/") + "/"
	var above []string
	for i, c := range top {
		if c == '/' {
			above = append(above, top[:i+1])
		}
	}
	for name, test := range map[string]struct {
		o    restore.Options
		want []string
	}{
		"directory": {restore.Options{Path: f.source}, []string{"./", "a/", "a/1.txt", "a/b/", "a/b/2.txt", "a/b/3.o", "y.o -> a/1.txt", "z.txt -> a/1.txt"}},
		"file":      {restore.Options{Path: f.path("a/b/2.txt")}, []string{"2.txt"}},
		"stream":    {restore.Options{Path: "stdin/dump"}, []string{"dump"}},
		"include":   {restore.Options{Path: f.source, Include: patterns(t, "*.o")}, []string{"./", "a/", "a/b/", "a/b/3.o", "y.o"}},
		"exclude":   {restore.Options{Path: f.source, Exclude: patterns(t, "1.txt", "b")}, []string{"./", "a/", "y.o", "z.txt -> y.o"}},
		"all": {restore.Options{Exclude: patterns(t, "b", "y.o")}, slices.Concat(above,
			[]string{top + "a/", top + "a/1.txt", top + "z.txt -> " + top + "a/1.txt", "stdin/", "stdin/dump"})},
	} {
		test.o.Snapshot = s
		p, res, _ := f.tar(test.o)
		if got := names(t, p); !slices.Equal(got, test.want) {
			t.Errorf("%s: the archive has\n%q, want\n%q", name, got, test.want)
		}
		test.o.DryRun = true
		dry, plan, _ := f.tar(test.o)
		if len(dry) > 0 || plan.Files != res.Files || plan.Links != res.Links || plan.Bytes != res.Bytes {
			t.Errorf("%s: the plan is %+v, the result %+v", name, plan, res)
		}
	}
	if _, _, _, err := f.tryTar(restore.Options{Snapshot: s, Path: "/nowhere"}); err == nil {
		t.Error("what is not there makes an archive")
	}
}

// What a snapshot can have and a tar can't.
func TestTarOddEntries(t *testing.T) {
	f := newFixture(t)
	var many []snapshot.Xattr
	for i := range 20 {
		many = append(many, snapshot.Xattr{Name: fmt.Sprintf("user.%02d", i), Value: noise(byte(i), 60000)})
	}
	entry := func(name string, e snapshot.Entry) snapshot.Entry {
		e.Key, e.Mode = snapshot.Key("").Child(name), 0o600
		return e
	}
	s := f.made(dirEntry(""),
		entry("device", snapshot.Entry{Type: snapshot.CharDevice, Device: unix.Mkdev(1<<22, 1)}),
		entry("file", snapshot.Entry{Type: snapshot.File, User: "a\x00b", Group: "gr\xfcn", Xattrs: many}),
		entry("hole", snapshot.Entry{Type: snapshot.File, Size: 3 << 20, Hash: [16]byte{1}, Extents: []snapshot.Extent{{Length: 3 << 20}}}),
		entry("link", snapshot.Entry{Type: snapshot.Symlink, Target: bytes.Repeat([]byte("x"), 3<<19)}),
		entry("socket", snapshot.Entry{Type: snapshot.Socket}),
	)
	p, res, ev := f.tar(restore.Options{Snapshot: s})
	if got := names(t, p); !slices.Equal(got, []string{"file", "hole"}) || res.Problems != 4 || len(ev.problems) != 4 || res.ReadChunks != 0 {
		t.Errorf("the archive has %q, result %+v, problems %v", got, res, ev.problems)
	}
}

// Many small files of few bundles, in another order than they stand in the bundles: each
// chunk is read once, as long as they all fit into the memory for them.
func TestTarReadsOnce(t *testing.T) {
	f := newFixture(t)
	var in bytes.Buffer
	w := tar.NewWriter(&in)
	const n = 9000 // more than two stretches
	for i := range n {
		contents := fmt.Sprintf("%0200d", (i*7919)%n)
		f.must(w.WriteHeader(&tar.Header{Name: fmt.Sprintf("%04d", (i*7919)%n), Mode: 0o600, Size: 200}))
		_, err := io.WriteString(w, contents)
		f.must(err)
	}
	f.must(w.Close())
	s := f.snapshotTar(in.Bytes())
	chunks := make(map[chunk.ID]bool)
	f.must(f.repo.LoadBody(t.Context(), s))
	for e, err := range (snapshot.Tree{Root: s.Body.Root, Source: f.repo}).All(t.Context()) {
		f.must(err)
		for _, x := range e.Extents {
			chunks[x.Chunk] = true
		}
	}
	p, res, _ := f.tar(restore.Options{Snapshot: s, Path: "tar/x"})
	if len(chunks) < 2 || res.ReadChunks != int64(len(chunks)) {
		t.Errorf("%d reads of %d chunks", res.ReadChunks, len(chunks))
	}
	r := tar.NewReader(bytes.NewReader(p))
	for i := -1; ; i++ { // ./ comes first
		h, err := r.Next()
		if err == io.EOF {
			if i != n {
				t.Errorf("%d files, want %d", i, n)
			}
			return
		}
		f.must(err)
		if i < 0 {
			continue
		}
		got, err := io.ReadAll(r)
		f.must(err)
		if h.Name != fmt.Sprintf("%04d", i) || string(got) != fmt.Sprintf("%0200d", i) {
			t.Fatalf("file %d is %s with %q", i, h.Name, got)
		}
	}
}
