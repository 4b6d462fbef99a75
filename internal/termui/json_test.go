package termui_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-backup/cairn/internal/termui"
)

func TestJSONWriter(t *testing.T) {
	type entry struct {
		termui.EncodedPath
		Size int64 `json:"size"`
	}
	var b bytes.Buffer
	w := termui.NewJSONWriter(&b)
	for _, tc := range []struct {
		kind string
		v    any
		want string
	}{
		{"summary", nil, `{"message_type":"summary"}`},
		{"summary", struct{}{}, `{"message_type":"summary"}`},
		{"entry", entry{termui.PathFields("/a<b>ö\x1b"), 5}, `{"message_type":"entry","path":"/a<b>ö\u001b","size":5}`},
		{"entry", entry{termui.PathFields("/\xff\n"), 5}, `{"message_type":"entry","path":"/\ufffd\n","path_b64":"L/8K","size":5}`},
		{"m", map[string]int{"b": 1, "a": 2}, `{"message_type":"m","a":2,"b":1}`},
		{"\"\n", json.RawMessage("{ \"x\" :\n 1 }"), `{"message_type":"\"\n","x":1}`},
		{"m", map[string]string{"host": "\xff"}, `{"message_type":"m","host":"\ufffd"}`},
	} {
		b.Reset()
		if err := w.Write(tc.kind, tc.v); err != nil || b.String() != tc.want+"\n" {
			t.Errorf("%s %v: %s, %v, want %s", tc.kind, tc.v, b.String(), err, tc.want)
		}
		if !json.Valid(b.Bytes()) {
			t.Errorf("not valid: %s", b.String())
		}
	}

	var back struct {
		B64 []byte `json:"path_b64"`
	}
	b.Reset()
	if err := w.Write("entry", termui.PathFields("\x80/x")); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || string(back.B64) != "\x80/x" {
		t.Errorf("%q, %v", back.B64, err)
	}

	b.Reset()
	for _, v := range []any{5, "x", []int{1}, math.NaN(), (*entry)(nil)} {
		if err := w.Write("m", v); err == nil || b.Len() > 0 {
			t.Errorf("%v: wrote %q, %v", v, b.String(), err)
		}
	}
	broken := errors.New("broken pipe")
	if err := termui.NewJSONWriter(brokenWriter{broken}).Write("m", nil); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// oneByOne is a writer that mixes up what is written at the same time.
type oneByOne struct{ b bytes.Buffer }

func (w *oneByOne) Write(p []byte) (int, error) {
	for _, c := range p {
		w.b.WriteByte(c)
	}
	return len(p), nil
}

func TestJSONWriterConcurrent(t *testing.T) {
	out := new(oneByOne)
	w := termui.NewJSONWriter(out)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				w.Write("entry", termui.PathFields("/some/path"))
			}
		})
	}
	all.Wait()
	want := strings.Repeat("{\"message_type\":\"entry\",\"path\":\"/some/path\"}\n", 400)
	if out.b.String() != want {
		t.Error("lines are mixed up")
	}
}
