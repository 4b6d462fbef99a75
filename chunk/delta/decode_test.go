package delta_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/cairn-backup/cairn/chunk/delta"
	"github.com/cairn-backup/cairn/seal"
)

// instruction is an insert and the copy behind it, if n is not 0.
type instruction struct {
	literals []byte
	n        uint64
	step     int64
}

// write is docs/format.md, the other way round.
func write(instructions []instruction) (d []byte) {
	for _, x := range instructions {
		d = binary.AppendUvarint(d, uint64(len(x.literals)))
		d = append(d, x.literals...)
		if x.n > 0 {
			d = binary.AppendUvarint(d, x.n)
			d = binary.AppendVarint(d, x.step)
		}
	}
	return d
}

// read reads a good delta of a target of raw bytes.
func read(d []byte, raw int) (instructions []instruction) {
	number := func() uint64 {
		v, n := binary.Uvarint(d)
		d = d[n:]
		return v
	}
	for raw > 0 {
		n := number()
		x := instruction{literals: d[:n]}
		d = d[n:]
		if raw -= int(n); raw > 0 {
			x.n = number()
			zigzag := number()
			x.step = int64(zigzag>>1) ^ -int64(zigzag&1)
			raw -= int(x.n)
		}
		instructions = append(instructions, x)
	}
	return instructions
}

const firstBase, secondBase = "abcdefgh", "ijkl"

func TestDecode(t *testing.T) {
	lit := func(s string) []byte { return []byte(s) }
	for name, test := range map[string]struct {
		instructions []instruction
		want         string
	}{
		"nothing":               {nil, ""},
		"literals":              {[]instruction{{lit("xyz"), 0, 0}}, "xyz"},
		"a copy":                {[]instruction{{nil, 3, 2}}, "cde"},
		"all":                   {[]instruction{{nil, 12, 0}}, "abcdefghijkl"},
		"over the seam":         {[]instruction{{nil, 4, 6}}, "ghij"},
		"the second":            {[]instruction{{nil, 4, 8}}, "ijkl"},
		"back and forth":        {[]instruction{{lit("x"), 2, 10}, {nil, 2, -12}, {nil, 1, 5}}, "xklabh"},
		"the same twice":        {[]instruction{{nil, 3, 0}, {nil, 3, -3}}, "abcabc"},
		"on behind literals":    {[]instruction{{nil, 3, 0}, {lit("x"), 3, 0}}, "abcxdef"},
		"literals at the end":   {[]instruction{{nil, 3, 0}, {lit("x"), 0, 0}}, "abcx"},
		"insert of many":        {[]instruction{{bytes.Repeat(lit("x"), 200), 1, 0}}, string(bytes.Repeat(lit("x"), 200)) + "a"},
		"a copy from the start": {[]instruction{{nil, 1, 0}}, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := delta.Decode([]byte("> "), write(test.instructions), len(test.want), []byte(firstBase), []byte(secondBase))
			if err != nil || string(got) != "> "+test.want {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	huge := binary.AppendUvarint(nil, 1<<63-1)
	for name, test := range map[string]struct {
		delta []byte
		raw   int
	}{
		"empty":                          {nil, 1},
		"something for nothing":          {[]byte{0}, 0},
		"too much":                       {[]byte{1, 'x', 0}, 1},
		"a second copy when all is made": {[]byte{0, 3, 0, 0, 3, 2}, 3},
		"too many literals":              {[]byte{2, 'x', 'y'}, 1},
		"literals cut off":               {[]byte{3, 'x', 'y'}, 3},
		"cut off behind the literals":    {[]byte{2, 'x', 'y'}, 3},
		"cut off in a length":            {[]byte{0, 0x83}, 300},
		"cut off behind a length":        {[]byte{0, 3}, 3},
		"cut off behind a copy":          {[]byte{0, 3, 0}, 4},
		"empty copy":                     {[]byte{0, 0, 0, 1, 'x'}, 1},
		"empty copy at the end":          {[]byte{1, 'x', 0, 0}, 2},
		"copy too long for the target":   {[]byte{0, 4, 0}, 3},
		"copy behind the bases":          {[]byte{0, 1, 24}, 1},
		"copy over the end":              {[]byte{0, 2, 22}, 2},
		"copy longer than the bases":     {[]byte{0, 13, 0}, 13},
		"copy before the bases":          {[]byte{0, 1, 1}, 1},
		"huge insert":                    {join(huge, []byte("x")), 1},
		"huge copy":                      {join([]byte{0}, huge, []byte{0}), 1},
		"huge step":                      {join([]byte{0, 1}, huge), 1},
		"huge step back":                 {join([]byte{0, 1}, binary.AppendUvarint(nil, 1<<63-2)), 1},
		"number of 64 bits":              {join([]byte{0, 1}, binary.AppendUvarint(nil, 1<<63)), 1},
		"number of 70 bits":              {join([]byte{0, 1}, bytes.Repeat([]byte{0xff}, 9), []byte{2}), 1},
		"longer form of an insert":       {[]byte{0x81, 0, 'x'}, 1},
		"longer form of a length":        {[]byte{0, 0x81, 0, 0}, 1},
		"longer form of a step":          {[]byte{0, 1, 0x80, 0}, 1},
		"copy that goes on":              {[]byte{0, 1, 0, 0, 1, 0}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			head := []byte("head")
			got, err := delta.Decode(head, test.delta, test.raw, []byte(firstBase), []byte(secondBase))
			if !errors.Is(err, seal.ErrDamaged) {
				t.Fatalf("got %q, %v; want ErrDamaged", got, err)
			}
			if string(got) != "head" {
				t.Errorf("dst is %q after an error", got)
			}
		})
	}
}

// What Decode accepts is what docs/format.md says, in the one way that it says.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{1, 'x', 2, 0}, uint16(3), []byte(firstBase), []byte(secondBase))
	f.Add([]byte{0, 4, 12, 1, 'x', 2, 3}, uint16(7), []byte(firstBase), []byte(secondBase))
	f.Add([]byte{0, 12, 0, 0, 12, 23, 2, 'x', 'y'}, uint16(26), []byte(firstBase), []byte(secondBase))
	f.Fuzz(func(t *testing.T, d []byte, raw uint16, first, second []byte) {
		got, err := delta.Decode(nil, d, int(raw), first, second)
		if err != nil {
			if !errors.Is(err, seal.ErrDamaged) || got != nil {
				t.Fatalf("got %d bytes and error %v, want none and ErrDamaged", len(got), err)
			}
			return
		}
		instructions := read(d, int(raw))
		if again := write(instructions); !bytes.Equal(again, d) {
			t.Fatalf("delta %x is another form of %x", d, again)
		}
		var want []byte
		space, at := join(first, second), int64(0)
		for i, x := range instructions {
			if i > 0 && len(x.literals) == 0 && x.step == 0 && x.n > 0 {
				t.Fatal("a copy goes on where the last one ended")
			}
			at += x.step
			want = append(append(want, x.literals...), space[at:at+int64(x.n)]...)
			at += int64(x.n)
		}
		if !bytes.Equal(got, want) || len(got) != int(raw) {
			t.Fatalf("got %x, want %x of %d bytes", got, want, raw)
		}
	})
}
