package chunk_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
)

var update = flag.Bool("update", false, "write the results of the vectors again")

// A vector is a file of testdata/vectors, see testdata/README.md.
type vector struct {
	params     chunk.Params
	key, idKey [32]byte
	input      []byte
	head       string // up to and with the empty line
	result     string // what follows it
}

func TestVectors(t *testing.T) {
	files, err := filepath.Glob("testdata/vectors/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	used := make(map[chunk.Algorithm]bool)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			v, err := readVector(file)
			if err != nil {
				t.Fatal(err)
			}
			used[v.params.Algorithm] = true
			s := newSplitter(t, v.params, v.key)
			h := chunk.NewHasher(chunk.Keys{Data: v.idKey})
			var got strings.Builder
			for _, c := range split(t, s, v.input) {
				fmt.Fprintf(&got, "%d %v\n", len(c), h.Sum(chunk.Data, c))
			}
			if *update {
				if err := os.WriteFile(file, []byte(v.head+got.String()), 0o666); err != nil {
					t.Fatal(err)
				}
			} else if got.String() != v.result {
				t.Errorf("got\n%swant\n%s", got.String(), v.result)
			}
		})
	}
	for _, a := range algorithms {
		if !used[a] {
			t.Errorf("no vector for %v", a)
		}
	}
}

func readVector(file string) (vector, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return vector{}, err
	}
	head, result, _ := strings.Cut(string(raw), "\n\n")
	v := vector{head: head + "\n\n", result: result}
	for line := range strings.Lines(head) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if err := v.set(name, value); err != nil {
			return vector{}, fmt.Errorf("%s: %s: %w", file, name, err)
		}
	}
	return v, nil
}

func (v *vector) set(name, value string) (err error) {
	switch name {
	case "algorithm":
		v.params.Algorithm, err = chunk.ParseAlgorithm(value)
	case "min":
		_, err = fmt.Sscan(value, &v.params.Min)
	case "avg":
		_, err = fmt.Sscan(value, &v.params.Avg)
	case "max":
		_, err = fmt.Sscan(value, &v.params.Max)
	case "key":
		_, err = hex.Decode(v.key[:], []byte(value))
	case "id-key":
		_, err = hex.Decode(v.idKey[:], []byte(value))
	case "input":
		v.input, err = makeInput(value)
	default:
		err = fmt.Errorf("unknown name")
	}
	return err
}

func makeInput(recipe string) ([]byte, error) {
	var how, what string
	var n int
	if _, err := fmt.Sscan(recipe, &how, &what, &n); err != nil {
		return nil, err
	}
	switch how {
	case "splitmix64":
		var seed uint64
		_, err := fmt.Sscan(what, &seed)
		return splitmix64(seed, n), err
	case "repeat":
		unit, err := hex.DecodeString(what)
		if err != nil {
			return nil, err
		}
		return bytes.Repeat(unit, n/len(unit)+1)[:n], nil
	}
	return nil, fmt.Errorf("unknown input %q", how)
}

// splitmix64 is the generator of G. Steele, D. Lea and C. Flood (OOPSLA
// 2014).
func splitmix64(state uint64, n int) []byte {
	p := make([]byte, 0, n+8)
	for len(p) < n {
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		p = binary.LittleEndian.AppendUint64(p, z^z>>31)
	}
	return p[:n]
}

func TestIDVectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/ids.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var kind, want string
		var key []byte
		var length int
		if _, err := fmt.Sscanf(line, "%s %x %d %s", &kind, &key, &length, &want); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		data := make([]byte, length)
		for i := range data {
			data[i] = byte(i % 251)
		}
		var k chunk.Keys
		var got chunk.ID
		switch kind {
		case "data":
			copy(k.Data[:], key)
			got = chunk.NewHasher(k).Sum(chunk.Data, data)
		case "node":
			copy(k.Node[:], key)
			got = chunk.NewHasher(k).Sum(chunk.Node, data)
		case "list":
			copy(k.List[:], key)
			got = chunk.NewHasher(k).Sum(chunk.List, data)
		default:
			t.Fatalf("unknown kind %q", kind)
		}
		if got.String() != want {
			t.Errorf("%s of %d bytes: %v, want %s", kind, length, got, want)
		}
		n++
	}
	if n == 0 {
		t.Error("no vectors")
	}
}
