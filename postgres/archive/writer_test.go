package archive_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/internal/need"
	"github.com/cairn-backup/cairn/postgres/archive"
)

// write makes a custom archive, with contents in pieces of n bytes.
func write(w io.Writer, toc *archive.TOC, all []stream, n int) error {
	items := make([]archive.Item, len(all))
	for i := range all {
		items[i] = all[i].Item
	}
	aw, err := archive.NewWriter(w, toc, items)
	if err != nil {
		return err
	}
	for _, s := range all {
		if err := aw.Next(s.Item); err != nil {
			return err
		}
		for data := s.data; data != ""; {
			k := min(n, len(data))
			if _, err := io.WriteString(aw, data[:k]); err != nil {
				return err
			}
			data = data[k:]
		}
	}
	return aw.Close()
}

func TestWriter(t *testing.T) {
	for _, name := range dumps {
		t.Run(name, func(t *testing.T) {
			toc, all, err := readAll(bytes.NewReader(load(t, name)))
			if err != nil {
				t.Fatal(err)
			}
			// More than a frame, and just a frame with and without CopyEnd.
			for i, size := range []int{200000, 65536, 65531, 65532, 0, 131072} {
				all[i].Size, all[i].data = int64(size), strings.Repeat("abc\n", size/4+1)[:size]
			}
			var first []byte
			for _, n := range []int{1 << 20, 1, 65536, 65537} {
				var w bytes.Buffer
				if err := write(&w, toc, all, n); err != nil {
					t.Fatal(err)
				}
				if first == nil {
					first = w.Bytes()
				} else if !bytes.Equal(w.Bytes(), first) {
					t.Errorf("other bytes with pieces of %d bytes", n)
				}
			}
			got, again, err := readAll(bytes.NewReader(first))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(again, all) {
				t.Error("other contents are read back")
			}
			if !bytes.Equal(got.Canonical().Append(nil), toc.Canonical().Append(nil)) || got.Created != toc.Created {
				t.Error("another table of contents is read back")
			}
			offsets(t, got, first)
		})
	}
}

// offsets fails unless every entry's block is where its offset says.
func offsets(t *testing.T, toc *archive.TOC, p []byte) {
	t.Helper()
	for _, e := range toc.Entries {
		if !e.HasData {
			if e.Offset != (archive.Offset{State: archive.OffsetNoData}) {
				t.Errorf("entry %d: %+v", e.DumpID, e.Offset)
			}
			continue
		}
		b := p[e.Offset.Pos:]
		kind := byte(1)
		if e.Is(archive.KindBlobs) {
			kind = 3
		}
		if want := []byte{kind, 0, byte(e.DumpID), byte(e.DumpID >> 8), 0, 0}; e.Offset.State != archive.OffsetKnown || !bytes.HasPrefix(b, want) {
			t.Errorf("entry %d: at %+v is % x", e.DumpID, e.Offset, b[:6])
		}
	}
}

// No large objects are an empty block; no rows are an item of 0 bytes.
func TestWriterEmpty(t *testing.T) {
	toc, all, err := readAll(bytes.NewReader(load(t, "pg17.dump")))
	if err != nil {
		t.Fatal(err)
	}
	var rows []stream
	for _, s := range all {
		if s.OID == 0 {
			rows = append(rows, stream{archive.Item{DumpID: s.DumpID}, ""})
		}
	}
	var w bytes.Buffer
	if err := write(&w, toc, rows, 1); err != nil {
		t.Fatal(err)
	}
	got, again, err := readAll(&w)
	if err != nil || !reflect.DeepEqual(again, rows) {
		t.Errorf("%v, %v", again, err)
	}
	offsets(t, got, func() []byte { var w bytes.Buffer; write(&w, toc, rows, 1); return w.Bytes() }())
}

func TestWriterRefuses(t *testing.T) {
	toc, all, err := readAll(bytes.NewReader(load(t, "pg15.dump")))
	if err != nil {
		t.Fatal(err)
	}
	items := make([]archive.Item, len(all))
	for i := range all {
		items[i] = all[i].Item
	}
	for what, change := range map[string]func(items []archive.Item) []archive.Item{
		"missing":  func(items []archive.Item) []archive.Item { return items[1:] },
		"order":    func(items []archive.Item) []archive.Item { items[0], items[1] = items[1], items[0]; return items },
		"twice":    func(items []archive.Item) []archive.Item { return append(items[:1:1], items...) },
		"unknown":  func(items []archive.Item) []archive.Item { return append(items, archive.Item{DumpID: 1}) },
		"negative": func(items []archive.Item) []archive.Item { items[0].Size = -1; return items },
		"OID":      func(items []archive.Item) []archive.Item { items[0].OID = 5; return items },
		"no OID":   func(items []archive.Item) []archive.Item { items[len(items)-1].OID = 0; return items },
	} {
		if _, err := archive.NewWriter(io.Discard, toc, change(append([]archive.Item{}, items...))); err == nil {
			t.Errorf("%s: no error", what)
		}
	}

	begin := func() *archive.Writer {
		w, err := archive.NewWriter(io.Discard, toc, items)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := begin()
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("data before the first item: no error")
	}
	w = begin()
	if err := w.Next(items[1]); err == nil {
		t.Error("the second item first: no error")
	}
	w = begin()
	if err := w.Close(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("nothing written: %v", err)
	}
	w = begin()
	w.Next(items[0])
	if _, err := w.Write(make([]byte, items[0].Size+1)); err == nil {
		t.Error("too much: no error")
	}
	for short := range min(items[0].Size, 8) {
		w = begin()
		w.Next(items[0])
		w.Write(make([]byte, items[0].Size-1-short))
		if err := w.Next(items[1]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("too little: %v", err)
		}
		if err := w.Close(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("too little, and closed: %v", err)
		}
	}
}

// The storage's error comes out.
func TestWriterError(t *testing.T) {
	toc, all, err := readAll(bytes.NewReader(load(t, "pg15.dump")))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1000, 20000} {
		if err := write(&full{n}, toc, all, 100); !errors.Is(err, errFull) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

var errFull = errors.New("full")

type full struct{ n int }

func (f *full) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// The SQL that pg_restore makes of what Writer and Directory wrote is that which it makes
// of pg_dump's archive: from a pipe, from a file, from a directory.
func TestPgRestore(t *testing.T) {
	need.Commands(t, "pg_restore")
	original := load(t, "pg15.dump")
	toc, all, err := readAll(bytes.NewReader(original))
	if err != nil {
		t.Fatal(err)
	}
	var w bytes.Buffer
	if err := write(&w, toc, all, 1000); err != nil {
		t.Fatal(err)
	}
	want := pgRestore(t, bytes.NewReader(original))
	if !strings.Contains(want, "\né\t") || !strings.Contains(want, "lowrite") {
		t.Fatal("pg_restore made no SQL")
	}
	if pgRestore(t, bytes.NewReader(w.Bytes())) != want {
		t.Error("from a pipe: other SQL")
	}
	file := filepath.Join(t.TempDir(), "x.dump")
	if err := os.WriteFile(file, w.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if pgRestore(t, nil, file) != want {
		t.Error("from a file: other SQL")
	}
	if pgRestore(t, nil, directory(t, toc, all)) != want {
		t.Error("from a directory: other SQL")
	}
}

// directory makes a directory archive.
func directory(t *testing.T, toc *archive.TOC, all []stream) string {
	dir := t.TempDir()
	put := func(name string, p []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := toc.Directory()
	put(archive.TOCFile, d.Append(nil))
	oids := make(map[int32][]uint32)
	for _, s := range all {
		if e := d.Entry(s.DumpID); s.OID == 0 {
			put(e.File.S, []byte(s.data+e.End()))
		} else {
			put(archive.BlobFile(s.OID), []byte(s.data))
			oids[s.DumpID] = append(oids[s.DumpID], s.OID)
		}
	}
	for _, e := range d.Entries {
		if e.Is(archive.KindBlobs) {
			put(e.File.S, archive.AppendBlobs(nil, oids[e.DumpID]))
		}
	}
	return dir
}

// pgRestore returns the SQL that pg_restore writes for an archive, without what is
// random in it.
func pgRestore(t *testing.T, stdin io.Reader, args ...string) string {
	t.Helper()
	cmd := exec.Command("pg_restore", append([]string{"-f", "-"}, args...)...)
	cmd.Stdin = stdin
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pg_restore: %v: %s", err, &stderr)
	}
	return string(withoutRandom(out))
}

// withoutRandom removes the lines of SQL that are different each time.
func withoutRandom(sql []byte) (same []byte) {
	for line := range bytes.Lines(sql) {
		if !bytes.HasPrefix(line, []byte(`\restrict`)) && !bytes.HasPrefix(line, []byte(`\unrestrict`)) {
			same = append(same, line...)
		}
	}
	return same
}

// Older versions as this package writes them are what pg_restore reads.
func TestPgRestoreVersions(t *testing.T) {
	need.Commands(t, "pg_restore")
	toc, all, err := readAll(bytes.NewReader(load(t, "pg15.dump")))
	if err != nil {
		t.Fatal(err)
	}
	for _, minor := range []byte{12, 13, 14} {
		toc.Version.Minor = minor
		var w bytes.Buffer
		if err := write(&w, toc, all, 1000); err != nil {
			t.Fatal(err)
		}
		if sql := pgRestore(t, &w); !strings.Contains(sql, "\n1\tann\tok\t\\N\n") {
			t.Errorf("1.%d: no rows in the SQL", minor)
		}
	}
}
