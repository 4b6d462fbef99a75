// Package vectors checks the language-neutral test vectors in
// testdata/vectors, and makes them:
//
//	go test ./internal/vectors -update
//
// A vector that this changes is a change of the repository format. What holds
// HPKE messages can't be made twice, as their randomness is the system's: such
// vectors are made once and from then on only opened.
package vectors

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/seal"
)

var update = flag.Bool("update", false, "write the vectors again, but for those with HPKE messages")

const folder = "../../testdata/vectors"

// vector is one file; testdata/vectors/README.md describes the form.
type vector struct {
	comment string
	expect  string // a key of expectations
	fields  []field
}

type field struct {
	name  string
	value []byte
}

// expectations are the errors that a vector may ask for.
var expectations = map[string]error{
	"success":      nil,
	"damaged":      seal.ErrDamaged,
	"foreign":      seal.ErrForeign,
	"newer":        seal.ErrNewer,
	"no key":       seal.ErrNoKey,
	"wrong secret": seal.ErrWrongSecret,
}

func isText(name string) bool { return strings.HasSuffix(name, "-text") }

func (v *vector) add(name string, value []byte) { v.fields = append(v.fields, field{name, value}) }

func (v *vector) String() string {
	var b strings.Builder
	for line := range strings.Lines(v.comment) {
		b.WriteString("# " + line)
	}
	fmt.Fprintf(&b, "\nexpect: %s\n\n", v.expect)
	for _, f := range v.fields {
		if isText(f.name) {
			fmt.Fprintf(&b, "%s: %s\n", f.name, f.value)
		} else {
			fmt.Fprintf(&b, "%s: %x\n", f.name, f.value)
		}
	}
	return b.String()
}

func parse(s string) (*vector, error) {
	v := new(vector)
	for line := range strings.Lines(s) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			name, ok = strings.CutSuffix(line, ":")
		}
		switch {
		case !ok:
			return nil, fmt.Errorf("line %.40q is no field", line)
		case name == "expect":
			v.expect = value
		case isText(name):
			v.add(name, []byte(value))
		default:
			p, err := hex.DecodeString(value)
			if err != nil {
				return nil, fmt.Errorf("field %s: %w", name, err)
			}
			v.add(name, p)
		}
	}
	if _, ok := expectations[v.expect]; !ok {
		return nil, fmt.Errorf("expect: %q", v.expect)
	}
	return v, nil
}

// reader gives the fields of a vector to a check.
type reader struct {
	*testing.T
	v    *vector
	used map[string]bool
}

// all returns the values of the fields of one name.
func (r *reader) all(name string) (values [][]byte) {
	r.used[name] = true
	for _, f := range r.v.fields {
		if f.name == name {
			values = append(values, f.value)
		}
	}
	return values
}

func (r *reader) bytes(name string) []byte {
	r.Helper()
	all := r.all(name)
	if len(all) != 1 {
		r.Fatalf("%d fields %s", len(all), name)
	}
	return all[0]
}

func (r *reader) array32(name string) [32]byte {
	r.Helper()
	p := r.bytes(name)
	if len(p) != 32 {
		r.Fatalf("field %s has %d bytes", name, len(p))
	}
	return [32]byte(p)
}

func (r *reader) u8(name string) byte {
	r.Helper()
	p := r.bytes(name)
	if len(p) != 1 {
		r.Fatalf("field %s has %d bytes", name, len(p))
	}
	return p[0]
}

func (r *reader) text(name string) string { return string(r.bytes(name)) }

// equal compares a result with what the vector says.
func (r *reader) equal(name string, got []byte) {
	r.Helper()
	if want := r.bytes(name); !bytes.Equal(got, want) {
		r.Errorf("%s is %x, want %x", name, got, want)
	}
}

// failed compares an error with what the vector expects, and reports whether
// there was one, so that there is no result to look at.
func (r *reader) failed(err error) bool {
	r.Helper()
	if want := expectations[r.v.expect]; want == nil && err != nil || !errors.Is(err, want) {
		r.Errorf("got error %v, want %s", err, r.v.expect)
	}
	return err != nil
}

// family is a group of vectors: files whose names begin with its name, read by one
// check.
type family struct {
	name  string
	check func(r *reader)
	// make returns the vectors by the rest of their names. It gives the
	// same bytes each time, unless the family holds HPKE messages.
	make func(t *testing.T) map[string]*vector
	hpke bool
}

var families = []family{
	{name: "keys", make: makeKeys, check: checkKeys},
	{name: "repository", make: makeRepository, check: checkRepository},
	{name: "section", make: makeSections, check: checkSection},
	{name: "signature", make: makeSignatures, check: checkSignature},
	{name: "slot", make: makeSlots, check: checkSlot},
	{name: "recipient", make: makeRecipientSlots, check: checkSlot, hpke: true},
	{name: "delta", make: makeDeltas, check: checkDelta},
	{name: "pack", make: makePacks, check: checkPack, hpke: true},
	{name: "config", make: makeConfigs, check: checkConfig, hpke: true},
}

func TestVectors(t *testing.T) {
	checked := make(map[string]bool)
	for _, f := range families {
		for rest, made := range f.make(t) {
			name := f.name + "-" + rest + ".txt"
			checked[name] = true
			t.Run(name, func(t *testing.T) { f.test(t, filepath.Join(folder, name), made) })
		}
	}
	// A file that no family makes would never be checked.
	files, err := filepath.Glob(filepath.Join(folder, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !checked[filepath.Base(file)] {
			t.Errorf("%s belongs to no family", file)
		}
	}
}

func (f family) test(t *testing.T, file string, made *vector) {
	old, err := os.ReadFile(file)
	if missing := errors.Is(err, fs.ErrNotExist); *update && (missing || !f.hpke) {
		old = []byte(made.String())
		err = os.WriteFile(file, old, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !f.hpke && string(old) != made.String() {
		t.Errorf("the program makes another vector now:\n%s", made)
	}
	v, err := parse(string(old))
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{T: t, v: v, used: make(map[string]bool)}
	f.check(r)
	for _, x := range v.fields {
		if v.expect == "success" && !r.used[x.name] {
			t.Errorf("field %s was not looked at", x.name)
		}
	}
}

// changed returns v with one field changed and another expectation.
func (v *vector) changed(comment, expect, name string, change func(p []byte) []byte) *vector {
	w := &vector{comment: comment, expect: expect}
	for _, f := range v.fields {
		if f.name == name {
			f.value = change(bytes.Clone(f.value))
		}
		w.fields = append(w.fields, f)
	}
	return w
}

// flip returns a change of one bit; a negative offset counts from the end.
func flip(at int) func([]byte) []byte {
	return func(p []byte) []byte {
		if at < 0 {
			at += len(p)
		}
		p[at] ^= 1
		return p
	}
}
