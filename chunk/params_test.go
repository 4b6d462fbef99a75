package chunk_test

import (
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
)

func TestParseAlgorithm(t *testing.T) {
	for name, want := range map[string]chunk.Algorithm{"fastcdc": 1, "fastcdc-prf": 2, "rabin": 3} {
		got, err := chunk.ParseAlgorithm(name)
		if err != nil || got != want || got.String() != name {
			t.Errorf("ParseAlgorithm(%q) = %v, %v, want %d", name, got, err, want)
		}
	}
	for _, name := range []string{"", "FastCDC", "buzhash", "algorithm 1", "rabin "} {
		if a, err := chunk.ParseAlgorithm(name); err == nil {
			t.Errorf("ParseAlgorithm(%q) = %v, want an error", name, a)
		}
	}
	if got := chunk.Algorithm(9).String(); got != "algorithm 9" {
		t.Errorf("String of an unknown algorithm: %q", got)
	}
}

func TestDefaultParams(t *testing.T) {
	for _, a := range algorithms {
		p := chunk.DefaultParams()
		p.Algorithm = a
		if err := p.Validate(); err != nil {
			t.Errorf("%v: %v", a, err)
		}
		if got := newSplitter(t, p, testKey(1)).Params(); got != p {
			t.Errorf("Params() = %+v, want %+v", got, p)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name string
		p    chunk.Params
		want string // part of the error; "" for none
	}{
		{"least", chunk.Params{Algorithm: chunk.FastCDC, Min: 64, Avg: 128, Max: 256}, ""},
		{"most", chunk.Params{Algorithm: chunk.Rabin, Min: 16 << 20, Avg: 32 << 20, Max: 64 << 20}, ""},
		{"odd", chunk.Params{Algorithm: chunk.FastCDCPRF, Min: 1000, Avg: 3001, Max: 10000}, ""},
		{"zero", chunk.Params{}, "unknown algorithm 0"},
		{"algorithm", chunk.Params{Algorithm: 4, Min: 64, Avg: 128, Max: 256}, "unknown algorithm 4"},
		{"below the window", chunk.Params{Algorithm: chunk.FastCDC, Min: 63, Avg: 128, Max: 256}, "at least 64"},
		{"negative", chunk.Params{Algorithm: chunk.FastCDC, Min: -1, Avg: 128, Max: 256}, "at least 64"},
		{"too large", chunk.Params{Algorithm: chunk.FastCDC, Min: 64, Avg: 128, Max: 64<<20 + 1}, "at most 67108864"},
		{"min near avg", chunk.Params{Algorithm: chunk.FastCDC, Min: 65, Avg: 128, Max: 256}, "at most half"},
		{"avg near max", chunk.Params{Algorithm: chunk.FastCDC, Min: 64, Avg: 128, Max: 255}, "at least twice"},
		{"rabin", chunk.Params{Algorithm: chunk.Rabin, Min: 64, Avg: 129, Max: 512}, "power of two"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.p.Validate()
			if c.want == "" && err != nil {
				t.Fatalf("Validate: %v", err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("Validate: %v, want %q in it", err, c.want)
			}
			if _, newErr := chunk.NewSplitter(c.p, testKey(1)); (newErr == nil) != (err == nil) {
				t.Errorf("NewSplitter: %v, but Validate: %v", newErr, err)
			}
		})
	}
}
