package ingest_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/snapshot"
)

// wantFailed demands that a tar is no source, for the reason given, and that nothing of it
// is in a snapshot for all that.
func (w *world) wantFailed(r io.Reader, says string) {
	w.Helper()
	edit := func(o *ingest.Options) { o.Paths, o.Sources = nil, []ingest.Source{&ingest.Tar{Name: "x", Reader: r}} }
	o, err := w.try(w.Context(), edit)
	if !errors.Is(err, ingest.ErrIncomplete) {
		w.Fatalf("the error is %v, want ErrIncomplete", err)
	}
	if p := o.problem(w.T, "tar/x"); !p.fatal || !strings.Contains(p.err.Error(), says) {
		w.Errorf("the problem is %q, want %q", p.err, says)
	}
	if left := append(w.names("snapshots/"), w.names("leases/")...); len(left) > 0 {
		w.Errorf("%q is there", left)
	}
}

// paxHeader is a tar with a header of so many bytes before its member, which package tar
// does not write.
func paxHeader(size int) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	h := file("x", "").Header
	h.Size, h.Format = int64(size), tar.FormatUSTAR
	h.ModTime = time.Unix(1e9, 0)
	w.WriteHeader(&h)
	record := fmt.Sprintf("%d SCHILY.xattr.user.a=", size)
	w.Write([]byte(record + strings.Repeat("v", size-len(record)-1) + "\n"))
	w.Close()
	p := b.Bytes()
	const typeflag, checksum = 156, 148
	p[typeflag] = tar.TypeXHeader
	sum := uint64(8 * ' ')
	for i, c := range p[:512] {
		if i < checksum || i >= checksum+8 {
			sum += uint64(c)
		}
	}
	copy(p[checksum:], fmt.Sprintf("%06o\x00 ", sum))
	return p
}

func TestTarBroken(t *testing.T) {
	plain := makeTar(t, file("f", "contents"), file("g", string(random(1, 600<<10))))
	badSum := gzipped(plain)
	badSum[len(badSum)-6] ^= 1
	global := slices.Concat(makeTar(t, archived{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"path": "all"}}, ""})[:1024], plain)
	var globals []archived
	for i := range 3 {
		globals = append(globals, archived{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{fmt.Sprint("X.", i): strings.Repeat("x", 400000)}}, ""})
	}
	badHeader := slices.Clone(plain)
	badHeader[2048+20] ^= 1
	for _, test := range []struct {
		name string
		in   []byte
		says string
	}{
		{"empty", nil, "is empty"},
		{"text", []byte(strings.Repeat("no tar at all\n", 100)), "no tar archive"},
		{"short text", []byte("hello\n"), "no tar archive"},
		{"short zip", []byte("PK\x03\x04\x14\x00\x00\x00\x08\x00"), "no tar archive"},
		{"no numbers", []byte(strings.Repeat("no line ends here ", 20)), "no tar archive"},
		{"no padding", slices.Concat([]byte("name\x00"), []byte(strings.Repeat("x", 80))), "no tar archive"},
		{"part of a name", []byte("hello"), "cut off"},
		{"part of a header", plain[:300], "cut off"},
		{"part of the numbers", plain[:110], "cut off"},
		{"part of binary numbers", slices.Concat(plain[:108], []byte{0x80, 0, 0, 0, 0x12, 0x34, 0x56, 0x78}, plain[116:200]), "cut off"},
		{"part of a block further on", plain[:1024+20], "cut off"},
		{"no end", plain[:len(plain)-1024], "without the two blocks"},
		{"half an end", plain[:len(plain)-512], "without the two blocks"},
		{"garbage", append(slices.Clone(plain), "x"...), "goes on behind its end"},
		{"two archives", slices.Concat(plain, plain), "goes on behind its end"},
		{"bad header", badHeader, "damaged near byte"},
		{"bad checksum", badSum, "gzip"},
		{"gzip without its sum", gzipped(plain)[:len(gzipped(plain))-8], "gzip"},
		{"garbage behind gzip", append(gzipped(plain), "garbage"...), "gzip"},
		{"cut zstd", zstded(t, plain)[:1000], "zstd"},
		{"garbage behind zstd", append(zstded(t, plain), "garbage"...), "zstd"},
		{"xz", []byte("\xfd7zXZ\x00..."), "xz -dc FILE | cairn snapshot tar:-"},
		{"lz4", []byte("\x04\x22\x4d\x18..."), "lz4 -dc"},
		{"volume", makeTar(t, kind('M', "m", ""), file("f", "x")), "one volume"},
		{"global path", global, "one path"},
		{"large header", paxHeader(2 << 20), "more than 1 MiB"},
		{"endless globals", makeTar(t, globals...), "1 MiB"},
	} {
		t.Run(test.name, func(t *testing.T) { newWorld(t).wantFailed(bytes.NewReader(test.in), test.says) })
	}
	t.Run("reader", func(t *testing.T) {
		newWorld(t).wantFailed(io.MultiReader(bytes.NewReader(plain[:2000]), iotest.ErrReader(errors.New("broken"))), "broken")
	})
	t.Run("allowed", func(t *testing.T) {
		w := newWorld(t)
		w.write("file", []byte("x"))
		o := w.snap(allowIncomplete, func(o *ingest.Options) {
			o.Sources = []ingest.Source{&ingest.Tar{Name: "bad", Reader: bytes.NewReader(plain[:5000])}, &ingest.Tar{Name: "good", Reader: bytes.NewReader(plain)}}
		})
		v := w.view(o.ID)
		v.wantContents("tar/good/f", []byte("contents"))
		v.wantContents(w.path("file"), []byte("x"))
		if _, ok := v.entries["tar/bad"]; ok || !o.Partial {
			t.Error("some of the broken archive is in the snapshot, or that is not marked")
		}
		if s := source(t, v.info.Body.Sources, "tar", "bad"); s.Status != snapshot.Failed {
			t.Errorf("the broken source is %+v", s)
		}
	})
}

// Wherever an archive is cut off, it is found out.
func TestTarCutAnywhere(t *testing.T) {
	long := file(strings.Repeat("long/", 40)+"name", "contents")
	long.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "y"}
	plain := makeTar(t, file("f", "contents"), kind(tar.TypeDir, "d/", ""), long, file("zeros", strings.Repeat("\x00", 3000)))
	packed := gzipped(plain)
	w := newWorld(t)
	for n := 0; n < len(plain); n += 256 {
		w.wantFailed(bytes.NewReader(plain[:n]), "")
	}
	for n := range packed {
		if n%16 == 0 || n > len(packed)-20 {
			w.wantFailed(bytes.NewReader(packed[:n]), "")
		}
	}
}

func TestTarGlobals(t *testing.T) {
	w := newWorld(t)
	global := func(records map[string]string) archived {
		return archived{tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: records}, ""}
	}
	own := file("own", "x")
	own.PAXRecords = map[string]string{"SCHILY.xattr.user.all": "mine"}
	o := w.clean(archive(makeTar(t,
		global(map[string]string{"comment": "2d7c4d", "mtime": "-1.5", "uname": "all", "SCHILY.xattr.user.all": "ours", "uid": "4000000"}),
		file("a", "x"), own, global(map[string]string{"uname": "", "mtime": "17"}), file("b", "x"),
	)))
	v := w.view(o.ID)
	a, own1, b := v.entry("tar/x/a"), v.entry("tar/x/own"), v.entry("tar/x/b")
	if a.User != "all" || a.UID != 4000000 || string(a.Xattrs[0].Value) != "ours" {
		t.Errorf("a is %+v", a)
	}
	// Its header has a time of its own in a record, as it is not whole seconds.
	if own1.Mtime != (snapshot.Time{Sec: 1e9, Nsec: 5}) || string(own1.Xattrs[0].Value) != "mine" {
		t.Errorf("own is %+v", own1)
	}
	if b.User != "" || b.UID != 4000000 {
		t.Errorf("b is %+v", b)
	}
}
