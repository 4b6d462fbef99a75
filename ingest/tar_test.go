package ingest_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/internal/gitignore"
	"github.com/cairn-backup/cairn/snapshot"
)

// archived is a member of a tar to be made.
type archived struct {
	tar.Header
	contents string
}

// file is a regular file in a tar.
func file(name, contents string) archived {
	return archived{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o640, Uid: 7, Gid: 8, ModTime: time.Unix(1e9, 5), Format: tar.FormatPAX}, contents}
}

// kind is a member of another type.
func kind(flag byte, name, linkname string) archived {
	m := file(name, "")
	m.Typeflag, m.Linkname = flag, linkname
	return m
}

// makeTar returns a tar of the members.
func makeTar(t testing.TB, members ...archived) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		m.Size = int64(len(m.contents))
		if err := w.WriteHeader(&m.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.contents); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// archive makes a snapshot of nothing but a tar, which is at tar/x in it.
func archive(p []byte) func(*ingest.Options) {
	return func(o *ingest.Options) {
		o.Paths, o.Sources = nil, []ingest.Source{&ingest.Tar{Name: "x", Reader: bytes.NewReader(p)}}
	}
}

// paths returns what is in the archive of a snapshot.
func (v *view) paths() []string { return v.below("tar/x") }

func (v *view) wantPaths(names ...string) {
	v.w.Helper()
	slices.Sort(names)
	if got := v.paths(); !slices.Equal(got, names) {
		v.w.Errorf("of the archive there is\n%q, want\n%q", got, names)
	}
}

func TestTar(t *testing.T) {
	w := newWorld(t)
	big := string(random(1, 3<<20))
	attrs := file("attrs", "x")
	attrs.PAXRecords = map[string]string{
		"SCHILY.xattr.user.a%3Db": "1\x002", "SCHILY.xattr.user.gone": "raw", "LIBARCHIVE.xattr.user.gone": "b3RoZXI",
		"SCHILY.acl.access":    "user::rw-,user:1000:r--,user:nobody-knows:rwx:77,group::r--,mask::rw-,other::---",
		"RHT.security.selinux": "system_u:object_r:t",
	}
	attrs.ChangeTime = time.Unix(2e9, 7)
	dev := kind(tar.TypeBlock, "dev", "")
	dev.Devmajor, dev.Devminor = 259, 70000
	sticky := kind(tar.TypeDir, "dir/", "")
	sticky.Mode, sticky.Uid, sticky.Uname = 0o1777, 3e9, "böb"
	old := file("old", "before the epoch")
	old.ModTime = time.Unix(-5, 250)
	o := w.clean(archive(makeTar(t,
		kind(tar.TypeDir, "./", ""), file("./z", "last of all"), sticky, file("dir/sub/\xff\xfe", "bytes"), file("dir//./deep", big), file("empty", ""),
		attrs, dev, kind(tar.TypeChar, "null", ""), kind(tar.TypeFifo, "fifo", ""), kind(tar.TypeSymlink, "link", "../../etc/passwd"), old,
		kind(tar.TypeCont, "cont", ""), file("old", "what comes later counts"), file("implied/by/this", "1"),
	)))
	v := w.view(o.ID)
	v.wantPaths("z", "dir", "dir/sub", "dir/sub/\xff\xfe", "dir/deep", "empty", "attrs", "dev", "null", "fifo", "link", "old", "cont", "implied", "implied/by", "implied/by/this")
	for path, want := range map[string]string{
		"z": "last of all", "dir/deep": big, "dir/sub/\xff\xfe": "bytes", "empty": "", "old": "what comes later counts", "implied/by/this": "1", "cont": "",
	} {
		v.wantContents("tar/x/"+path, []byte(want))
		if e := v.entry("tar/x/" + path); e.Hash != v.contentHash(e, []byte(want)) {
			t.Errorf("%s has another content hash than a file would", path)
		}
	}
	root := v.entry("tar/x")
	if root.Mode != 0o640 || root.UID != 7 || root.Mtime != (snapshot.Time{Sec: 1e9, Nsec: 5}) || root.Type != snapshot.Directory {
		t.Errorf("the archive itself is %+v", root)
	}
	if e := v.entry("tar/x/dir"); e.Mode != 0o1777 || e.UID != 3e9 || e.User != "böb" || e.GID != 8 {
		t.Errorf("dir is %+v", e)
	}
	if e := v.entry("tar/x/implied/by"); e.Type != snapshot.Directory || e.Mode != 0o755 || e.UID != 7 || e.Mtime.Sec != 1e9 {
		t.Errorf("a directory that the archive lacks is %+v", e)
	}
	if e := v.entry("tar/x/dev"); e.Type != snapshot.BlockDevice || e.Device != unix.Mkdev(259, 70000) {
		t.Errorf("dev is %+v", e)
	}
	if e := v.entry("tar/x/link"); e.Type != snapshot.Symlink || string(e.Target) != "../../etc/passwd" {
		t.Errorf("link is %+v", e)
	}
	e := v.entry("tar/x/attrs")
	want := []snapshot.Xattr{
		{Name: "security.selinux", Value: []byte("system_u:object_r:t\x00")},
		{Name: "system.posix_acl_access", Value: []byte("\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x07\x00\x4d\x00\x00\x00" +
			"\x02\x00\x04\x00\xe8\x03\x00\x00" + "\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x06\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff")},
		{Name: "user.a=b", Value: []byte("1\x002")}, {Name: "user.gone", Value: []byte("other")},
	}
	if fmt.Sprintf("%q", e.Xattrs) != fmt.Sprintf("%q", want) || e.Ctime != (snapshot.Time{Sec: 2e9, Nsec: 7}) {
		t.Errorf("attributes are\n%q\nwant\n%q\nctime %v", e.Xattrs, want, e.Ctime)
	}
	if s := source(t, o.Sources, "tar", "x"); s.Status != snapshot.Complete || s.Totals.Files != 8 || s.Totals.Dirs != 5 || s.Totals.Others != 4 {
		t.Errorf("the source is %+v", s)
	}
}

// A hard link is to what had the name when the link was made.
func TestTarHardLinks(t *testing.T) {
	w := newWorld(t)
	o := w.clean(archive(makeTar(t,
		file("a", "first"), kind(tar.TypeLink, "b", "./a"), kind(tar.TypeLink, "chain", "b"), kind(tar.TypeLink, "chain2", "chain"),
		file("a", "second"), kind(tar.TypeLink, "c", "a"), kind(tar.TypeLink, "a", "a"),
		kind(tar.TypeSymlink, "s", "nowhere"), kind(tar.TypeLink, "s2", "/s"), file("alone", "x"),
		file("big", string(random(1, 1<<20))), kind(tar.TypeLink, "0big", "big"),
	)), func(o *ingest.Options) {
		report := o.Observer.Problem
		o.Observer.Problem = func(path string, err error, fatal bool) {
			if path != "tar/x" || fatal { // of the slash
				report(path, err, fatal)
			}
		}
	})
	v := w.view(o.ID)
	groups := make(map[uint64][]string)
	for path, want := range map[string]string{
		"a": "second", "b": "first", "chain": "first", "chain2": "first", "c": "second", "alone": "x", "big": string(random(1, 1<<20)), "0big": string(random(1, 1<<20)),
	} {
		v.wantContents("tar/x/"+path, []byte(want))
	}
	for _, path := range v.paths() {
		if e := v.entry("tar/x/" + path); e.HasLink {
			groups[e.Link] = append(groups[e.Link], path)
		}
	}
	var got []string
	for _, g := range groups {
		got = append(got, strings.Join(g, " "))
	}
	slices.Sort(got)
	if want := []string{"0big big", "a c", "b chain chain2", "s s2"}; !slices.Equal(got, want) {
		t.Errorf("these are linked: %q, want %q", got, want)
	}
	if e := v.entry("tar/x/s2"); e.Type != snapshot.Symlink || string(e.Target) != "nowhere" {
		t.Errorf("s2 is %+v", e)
	}
}

// What can't be in the tree is named, and the rest is there.
func TestTarProblems(t *testing.T) {
	good := file("good", "good")
	chain := []archived{file("l0", "x")}
	for i := range 70 {
		chain = append(chain, kind(tar.TypeLink, fmt.Sprint("l", i+1), fmt.Sprint("l", i)))
	}
	acl := file("acl", "x")
	acl.PAXRecords = map[string]string{"SCHILY.acl.access": "user::rw-,user:nobody-has-this-name:rwx,group::r--,mask::rwx,other::---"}
	odd := file("odd", "x")
	odd.PAXRecords = map[string]string{"SCHILY.acl.ace": "everyone@:r"}
	for _, test := range []struct {
		name    string
		members []archived
		path    string
		says    string
		left    []string // in the snapshot besides good
		warning bool
	}{
		{"up", []archived{file("a/../../etc/passwd", "x")}, "tar/x/a/../../etc/passwd", `".."`, nil, false},
		{"no name", []archived{file(".", "")}, "tar/x/.", "without a name", nil, false},
		{"long name", []archived{file(strings.Repeat("n", 256), "x")}, "tar/x/" + strings.Repeat("n", 256), "255 bytes", nil, false},
		{"long path", []archived{file(strings.Repeat("n/", 40000)+"x", "x")}, "tar/x/" + strings.Repeat("n/", 40000) + "x", "64 KiB", nil, false},
		{"absolute", []archived{file("/etc/x", "x"), file("//y", "y")}, "tar/x", "without it", []string{"etc", "etc/x", "y"}, true},
		{"forward link", []archived{kind(tar.TypeLink, "l", "later"), file("later", "x")}, "tar/x/l", `to "tar/x/later", which does not stand before it`, []string{"later"}, false},
		{"link to a directory", []archived{kind(tar.TypeDir, "d/", ""), kind(tar.TypeLink, "l", "d")}, "tar/x/l", "is a directory", []string{"d"}, false},
		{"link out", []archived{kind(tar.TypeLink, "l", "../x")}, "tar/x/l", "a name that can't be one", nil, false},
		{"below a file", []archived{file("a", "x"), file("a/b", "y")}, "tar/x/a/b", "no directory", []string{"a"}, false},
		{"below a link", []archived{kind(tar.TypeSymlink, "lib", "usr/lib"), file("lib/x", "y"), file("lib.so", "z")}, "tar/x/lib/x", "no directory", []string{"lib", "lib.so"}, false},
		{"long chain", chain, "tar/x/l66", "more than 64 links", nil, false},
		{"acl", []archived{acl}, "tar/x/acl", "nobody-has-this-name", []string{"acl"}, false},
		{"odd record", []archived{odd, odd}, "tar/x", "SCHILY.acl.ace", []string{"odd"}, true},
		{"odd type", []archived{kind('Q', "q", "")}, "tar/x/q", "unknown type", []string{"q"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			o := w.snap(archive(makeTar(t, append(test.members, good)...)))
			p := o.problem(t, test.path)
			if !strings.Contains(p.err.Error(), test.says) || p.fatal == test.warning || o.Partial == test.warning {
				t.Errorf("%v (fatal %t, partial %t)", p.err, p.fatal, o.Partial)
			}
			v := w.view(o.ID)
			v.wantContents("tar/x/good", []byte("good"))
			if test.name != "long chain" {
				v.wantPaths(append(test.left, "good")...)
			}
		})
	}
}

// A member that several names lead to is found among those that are left out, too.
func TestTarExcludes(t *testing.T) {
	w := newWorld(t)
	set := gitignore.New("/")
	for _, p := range []string{"*.o", "/top", "!keep.o"} {
		w.must(set.Add(p, "test"))
	}
	big := string(random(1, 1<<20))
	o := w.snap(archive(makeTar(t, file("top/a", big), file("sub/top", "b"), file("c.o", big), file("keep.o", "d"), kind(tar.TypeLink, "l", "c.o"))),
		func(o *ingest.Options) { o.Excludes = set })
	w.view(o.ID).wantPaths("sub", "sub/top", "keep.o")
	if p := o.problem(t, "tar/x/l"); !p.fatal || !strings.Contains(p.err.Error(), "left out") {
		t.Errorf("the link to what is left out: %v", p.err)
	}
	if o.Totals.NewRaw > 1<<19 {
		t.Errorf("%d bytes were stored, of which the snapshot needs none", o.Totals.NewRaw)
	}
}

func gzipped(p []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(p)
	w.Close()
	return b.Bytes()
}

func zstded(t *testing.T, p []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(p, nil)
}

func TestTarPacked(t *testing.T) {
	plain := makeTar(t, file("f", "contents"), file("g", string(random(1, 1<<20))))
	half := len(plain) / 2
	bzip2ed, err := base64.StdEncoding.DecodeString(bzip2Tar)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string][]byte{
		"plain": plain, "gzip": gzipped(plain), "gzip of two members": slices.Concat(gzipped(plain[:half]), gzipped(plain[half:])),
		"zstd": zstded(t, plain), "zstd of two frames": slices.Concat(zstded(t, plain[:half]), zstded(t, plain[half:])),
		"zstd behind a skippable frame": slices.Concat([]byte("\x50\x2a\x4d\x18\x04\x00\x00\x00skip"), zstded(t, plain)),
		"record of zeros":               slices.Concat(plain, make([]byte, 10240)), "bzip2": bzip2ed,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			o := w.clean(archive(p))
			v := w.view(o.ID)
			if name == "bzip2" {
				v.wantContents("tar/x/f", []byte("bzip2\n"))
				return
			}
			v.wantContents("tar/x/f", []byte("contents"))
			v.wantContents("tar/x/g", random(1, 1<<20))
		})
	}
}

// bzip2Tar is a tar with the file f.
const bzip2Tar = "QlpoOTFBWSZTWaCMTKkAAG77gMmQAARAAHUAAADxIF4QCAggAFRCnqYTahiYam9QSU1BppptQMQfcyGQgjihCNa00HnKKBEAdh8BNARuyJFKOFSj4GwsP2A0FMzIti7kinChIUEYmVI="

// The same archive again costs next to nothing, and is known to be the same.
func TestTarAgain(t *testing.T) {
	members := func(changed string) []archived {
		var ms []archived
		for i := range 300 {
			ms = append(ms, file(fmt.Sprintf("%03d", (i*7)%300), string(random(uint64(i), 8000))))
		}
		return append(ms, file("big", string(random(999, 4<<20))), kind(tar.TypeLink, "l", "big"), file("000", changed))
	}
	w := newWorld(t)
	first := w.clean(archive(makeTar(t, members("1")...)))
	again := w.clean(archive(gzipped(makeTar(t, members("1")...))))
	if again.Parent != first.ID || again.Totals.New+again.Totals.Changed != 0 || again.Totals.Unmodified != 302 || again.Totals.NewRaw > 64<<10 {
		t.Errorf("the same again: %+v", again.Totals)
	}
	if o := w.clean(archive(makeTar(t, members("1")...)), func(o *ingest.Options) { o.SkipIfUnchanged = true }); !o.Skipped {
		t.Errorf("the same again made a snapshot")
	}
	// Time and owner count in an archive, unlike in the directories above other sources.
	touched := members("1")
	touched[5].Uid++
	if o := w.clean(archive(makeTar(t, touched...)), func(o *ingest.Options) { o.SkipIfUnchanged = true }); o.Skipped || o.Totals.Changed != 1 {
		t.Errorf("a change of an owner: %+v", o.Totals)
	}
	link := func(target, attr string) *outcome {
		l := kind(tar.TypeSymlink, "s", target)
		l.PAXRecords = map[string]string{"SCHILY.xattr.user.a": attr}
		return w.clean(archive(makeTar(t, append(touched, l)...)))
	}
	for _, test := range []struct {
		o    *outcome
		want ingest.Change
	}{{link("a", "1"), ingest.New}, {link("a", "1"), ingest.Unmodified}, {link("b", "1"), ingest.Changed}, {link("b", "2"), ingest.Changed}} {
		if got := test.o.changes["tar/x/s"]; got != test.want {
			t.Errorf("the symbolic link is %s, want %s", got, test.want)
		}
	}
	more := w.clean(archive(makeTar(t, append(members("2"), file("new", "x"))...)))
	if tt := more.Totals; tt.New != 1 || tt.Changed != 2 || tt.NewRaw > 1<<20 { // the owner is changed back
		t.Errorf("little changes: %+v", tt)
	}
}

// Far more members than the sorter holds, in no order, some of them several times.
func TestTarMany(t *testing.T) {
	const n = 8000 // 9 MB of records
	w := newWorld(t)
	r := rand.New(rand.NewPCG(1, 2))
	long := strings.Repeat("name", 60)
	name := func(i int) string { return fmt.Sprintf("dir%02d%s/%s%d", i%50, long, long, i) }
	var members []archived
	want := make(map[string]string)
	for _, i := range r.Perm(n) {
		members = append(members, file(name(i), fmt.Sprint(i)))
		want[name(i)] = fmt.Sprint(i)
	}
	for _, i := range r.Perm(n)[:500] {
		members = append(members, kind(tar.TypeLink, name(i)+"link", name(i)), file(name(i), "again"))
		want[name(i)+"link"], want[name(i)] = fmt.Sprint(i), "again"
	}
	// When the next archive is taken, nothing is kept of those before.
	next := &whenRead{bytes.NewReader(makeTar(t)), func() {
		if n := temporaryFiles(t); n > 0 {
			t.Errorf("%d temporary files are open when the next archive is read", n)
		}
	}}
	o := w.clean(archive(makeTar(t, members...)), func(o *ingest.Options) {
		o.Sources = append(o.Sources, &ingest.Tar{Name: "y", Reader: next})
	})
	v := w.view(o.ID)
	if got := len(v.paths()); got != len(want)+50 {
		t.Fatalf("%d entries, want %d", got, len(want)+50)
	}
	for path, contents := range want {
		v.wantContents("tar/x/"+path, []byte(contents))
	}
}

// whenRead calls a function before each read.
type whenRead struct {
	io.Reader
	f func()
}

func (r *whenRead) Read(p []byte) (int, error) {
	r.f()
	return r.Reader.Read(p)
}

// temporaryFiles counts the open files of sorters.
func temporaryFiles(t *testing.T) (n int) {
	const fds = "/proc/self/fd/"
	list, err := os.ReadDir(fds)
	if err != nil {
		t.Error(err)
	}
	for _, fd := range list {
		if name, err := os.Readlink(fds + fd.Name()); err == nil && strings.Contains(name, "/cairn-sort-") {
			n++
		}
	}
	return n
}

func TestTarNames(t *testing.T) {
	w := newWorld(t)
	in := func(names ...string) func(*ingest.Options) {
		return func(o *ingest.Options) {
			for _, n := range names {
				o.Sources = append(o.Sources, &ingest.Tar{Name: n, Reader: bytes.NewReader(makeTar(t, file("f", n)))})
			}
		}
	}
	for says, names := range map[string][]string{"no name": {""}, "name": {"a/../b"}, "two": {"a", "a"}, "one place": {"a", "a/b"}} {
		if _, err := w.try(t.Context(), in(names...)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("names %q: %v", names, err)
		}
	}
	o := w.clean(in("z", "a/b", "a/a"), func(o *ingest.Options) { o.Sources = append(o.Sources, stdin("s", []byte("s"))) })
	v := w.view(o.ID)
	for _, n := range []string{"z", "a/b", "a/a"} {
		v.wantContents("tar/"+n+"/f", []byte(n))
	}
	v.wantContents("stdin/s", []byte("s"))
	if o := w.clean(archive(makeTar(t))); len(w.view(o.ID).paths()) != 0 || w.view(o.ID).entry("tar/x").Type != snapshot.Directory {
		t.Error("an archive without members is no empty directory")
	}
}

// Who waits for a tar that does not come can still end the run.
func TestTarInterrupted(t *testing.T) {
	w := newWorld(t)
	plain := makeTar(t, file("f", "contents"), file("g", string(random(1, 1<<20))))
	for _, n := range []int{0, 700, 500000} {
		in, out := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			out.Write(plain[:n])
			cancel() // all that came was taken, and there is no more
		}()
		_, err := w.try(ctx, func(o *ingest.Options) { o.Paths, o.Sources = nil, []ingest.Source{&ingest.Tar{Name: "x", Reader: in}} })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after %d bytes: %v", n, err)
		}
		if left := w.names("snapshots/"); len(left) > 0 {
			t.Errorf("%q is there", left)
		}
		out.Close()
	}
}
