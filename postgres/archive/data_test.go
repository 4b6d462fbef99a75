package archive_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cairn-backup/cairn/postgres/archive"
)

func TestData(t *testing.T) {
	large := strings.Repeat("\\.\n\x00", 4200)
	want := map[string]string{
		"users":                   "1\tann\tok\t\\N\n2\t\t\\N\t\\N\n3\t\\N\tsad\t\\N\n",
		"Ta (b), le":              "\\\\.\t\\n\t\\t\t\\N\n\\\\N\t\t\\b\\f\\v\\r\t\"\né\t\\\\\\\\.\t\\\\.\\n\t,\n",
		"nothing":                 "\n\n",
		"empty":                   "",
		"audit":                   "",
		"large object 20001":      "",
		"large object 20002":      large,
		"large object 2147483648": "\x00",
		"large object 4000000000": "large",
	}
	for _, name := range dumps {
		t.Run(name, func(t *testing.T) {
			toc, all, err := readAll(bytes.NewReader(load(t, name)))
			if err != nil {
				t.Fatal(err)
			}
			left := make(map[string]string)
			for what, data := range want {
				left[what] = data
			}
			for _, s := range all {
				what := toc.Entry(s.DumpID).Tag.S
				if s.OID != 0 {
					what = fmt.Sprintf("large object %d", s.OID)
				}
				if data, ok := left[what]; ok && data != s.data {
					t.Errorf("%s: %q, want %q", what, s.data, data)
				}
				delete(left, what)
			}
			if len(left) > 0 {
				t.Errorf("missing: %v", left)
			}
			for _, small := range []int{1, 2, 5, 6, 11} {
				again, err := readIn(load(t, name), small)
				if err != nil || !reflect.DeepEqual(again, all) {
					t.Errorf("in pieces of %d bytes: other contents, %v", small, err)
				}
			}
		})
	}
}

// readIn is readAll with reads of n bytes, from a reader that gives one at a time.
func readIn(p []byte, n int) (all []stream, err error) {
	br := bufio.NewReader(iotest.OneByteReader(bytes.NewReader(p)))
	toc, err := archive.ReadTOC(br)
	if err != nil {
		return nil, err
	}
	data := archive.NewData(br, toc)
	for {
		item, err := data.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		var got []byte
		buf := make([]byte, n)
		for err == nil {
			var k int
			k, err = data.Read(buf)
			got = append(got, buf[:k]...)
		}
		if err != io.EOF {
			return nil, err
		}
		item.Size = int64(len(got))
		all = append(all, stream{item, string(got)})
	}
}

// Items that are not read are read over, and tested all the same.
func TestDataSkips(t *testing.T) {
	p := load(t, "pg17.dump")
	_, all, err := readAll(bytes.NewReader(p))
	if err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(bytes.NewReader(p))
	toc, err := archive.ReadTOC(br)
	if err != nil {
		t.Fatal(err)
	}
	data := archive.NewData(br, toc)
	for i := 0; ; i++ {
		item, err := data.Next()
		if err == io.EOF && i == len(all) {
			return
		}
		if err != nil {
			t.Fatal(i, err)
		}
		if item.DumpID != all[i].DumpID || item.OID != all[i].OID {
			t.Errorf("item %d is %v, want %v", i, item, all[i].Item)
		}
	}
}

// An archive that ends too early is never taken for a whole one, wherever it ends:
// tried at one place of 67, and near the end at each.
func TestTruncated(t *testing.T) {
	for _, name := range []string{"pg15.dump", "pg17.dump"} {
		p := load(t, name)
		for n := 0; n < len(p); n++ {
			if n%67 != 0 && len(p)-n > 400 {
				continue
			}
			if _, _, err := readAll(bytes.NewReader(p[:n])); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s, %d of %d bytes: %v", name, n, len(p), err)
			}
		}
	}
}

func TestRefusedData(t *testing.T) {
	p := load(t, "pg15.dump")
	toc := readTOC(t, "pg15.dump")
	start := len(toc.Append(nil))
	blobs := bytes.LastIndex(p, append([]byte{3}, 0, byte(find(t, toc, "BLOBS", "BLOBS").DumpID)))
	for what, damaged := range map[string][]byte{
		"rubbish behind":   append(p[:len(p):len(p)], 'x'),
		"a block twice":    append(p[:len(p):len(p)], p[start:]...),
		"kind of block":    replaced(p, start, 2),
		"table as blobs":   replaced(p, start, 3),
		"blobs as table":   replaced(p, blobs, 1),
		"ID":               replaced(p, start+2, 0),
		"sign of a length": replaced(p, start+6, 1),
		"end of the rows":  bytes.Replace(p, []byte("\\.\n\n\n"), []byte("\\.\n\n "), 1),
	} {
		_, _, err := readAll(bytes.NewReader(damaged))
		if !errors.Is(err, archive.ErrCorrupt) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", what, err)
		}
	}

	toc.Compression = 6
	if _, err := archive.NewData(bufio.NewReader(bytes.NewReader(p[start:])), toc).Next(); err == nil || err == io.EOF {
		t.Errorf("compressed data: %v", err)
	}
	dir := readTOC(t, "pg15.toc.dat")
	if _, err := archive.NewData(bufio.NewReader(bytes.NewReader(nil)), dir).Next(); err == nil || err == io.EOF {
		t.Errorf("a directory: %v", err)
	}
}

func replaced(p []byte, at int, b byte) []byte {
	p = bytes.Clone(p)
	p[at] = b
	return p
}

// An error of the storage comes out as it is, and again.
func TestDataError(t *testing.T) {
	p := load(t, "pg15.dump")
	broken := errors.New("broken")
	br := bufio.NewReader(io.MultiReader(bytes.NewReader(p[:len(p)-100]), iotest.ErrReader(broken)))
	toc, err := archive.ReadTOC(br)
	if err != nil {
		t.Fatal(err)
	}
	data := archive.NewData(br, toc)
	for err == nil {
		_, err = data.Next()
	}
	_, again := data.Next()
	_, read := data.Read(make([]byte, 1))
	for _, err := range []error{err, again, read} {
		if !errors.Is(err, broken) {
			t.Errorf("%v", err)
		}
	}
}

func BenchmarkData(b *testing.B) {
	const rows = 200000
	toc := &archive.TOC{Header: archive.Header{Version: archive.Version{Major: 1, Minor: 14}, Format: archive.Custom}}
	toc.Entries = []archive.Entry{{DumpID: 1, HasData: true, Desc: archive.Text{S: "TABLE DATA"}, Copy: archive.Text{S: "COPY"}}}
	row := strings.Repeat("x", 99) + "\n"
	p := append([]byte{}, "\x01\x00\x01\x00\x00\x00"...)
	for range rows {
		p = append(append(p, "\x00\x64\x00\x00\x00"...), row...)
	}
	p = append(p, "\x00\x05\x00\x00\x00\\.\n\n\n\x00\x00\x00\x00\x00"...)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		data := archive.NewData(bufio.NewReaderSize(bytes.NewReader(p), 1<<18), toc)
		if _, err := data.Next(); err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, data); err != nil || n != rows*int64(len(row)) {
			b.Fatal(n, err)
		}
	}
}
