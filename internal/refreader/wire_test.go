package refreader

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"
	"testing"
)

// The vectors of the BLAKE3 team (test_vectors.json, input length 0), cut to 32 bytes.
func TestBLAKE3(t *testing.T) {
	for _, test := range []struct {
		name, want string
		got        ID
	}{
		{"hash", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262", hash()},
		{"keyed", "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26",
			keyed(ID([]byte("whats the Elvish word for friend")))},
		{"derive", "2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d",
			kdf("BLAKE3 2019-12-27 16:29:52 test vectors context")},
	} {
		if test.got.String() != test.want {
			t.Errorf("%s: %v, want %s", test.name, test.got, test.want)
		}
	}
}

// Test cases 13 and 14 of the GCM specification (McGrew and Viega): AES-256 under the zero key.
func TestAEAD(t *testing.T) {
	for ciphertext, want := range map[string]string{
		"530f8afbc74536b9a963b4f1c4cb738b":                                 "",
		"cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919": "00000000000000000000000000000000",
	} {
		b, err := hex.DecodeString(ciphertext)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := openAEAD(ID{}, zeroNonce, nil, b)
		if err != nil || hex.EncodeToString(plain) != want {
			t.Errorf("open %s: %x, %v", ciphertext, plain, err)
		}
		b[0] ^= 1
		if _, err := openAEAD(ID{}, zeroNonce, nil, b); err == nil {
			t.Errorf("open %x: no error", b)
		}
	}
}

func TestPadme(t *testing.T) {
	for n, want := range map[uint64]uint64{
		0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 7: 7, 8: 8, 9: 10, 10: 10, 11: 12, 15: 16, 16: 16, 17: 18, 33: 36,
		100: 104, 1000: 1024, 1025: 1088, 1 << 20: 1 << 20, 1<<20 + 1: 1<<20 + 1<<15, 1<<32 - 1: 1 << 32,
	} {
		if got := padme(n); got != want {
			t.Errorf("padme(%d) = %d, want %d", n, got, want)
		}
	}
	for n := uint64(1); n < 1<<16; n++ {
		if p := padme(n); p < n || padme(p) != p || float64(p) > 1.12*float64(n) {
			t.Fatalf("padme(%d) = %d", n, p)
		}
	}
}

func TestPackSize(t *testing.T) {
	for bare := uint64(1248); bare < 1<<17; bare += 7 {
		size := packSize(bare)
		if gap := size - bare; size < bare || gap > 0 && gap < 16 || padme(size) != size {
			t.Fatalf("packSize(%d) = %d", bare, size)
		}
	}
}

func TestUvarint(t *testing.T) {
	for _, v := range []uint64{0, 1, 127, 128, 16383, 16384, math.MaxUint32, math.MaxUint64} {
		c := newCursor(binary.AppendUvarint(nil, v))
		if got := c.uvarint(); got != v || c.end() != nil {
			t.Errorf("uvarint %d: %d, %v", v, got, c.end())
		}
	}
	for _, s := range []string{
		"", "80", // cut short
		"8000", "ff00", "808000", // padded
		"ffffffffffffffffff02",   // more than 64 bits
		"ffffffffffffffffffff01", // more than 10 bytes
	} {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		c := newCursor(b)
		if v := c.uvarint(); c.err == nil {
			t.Errorf("uvarint %s: %d, want an error", s, v)
		}
	}
}

func TestSvarint(t *testing.T) {
	for encoded, want := range map[string]int64{"\x00": 0, "\x01": -1, "\x02": 1, "\x03": -2, "\x7f": -64,
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01": math.MinInt64} {
		if got := newCursor([]byte(encoded)).svarint(); got != want {
			t.Errorf("svarint %x: %d, want %d", encoded, got, want)
		}
	}
}

func TestEndPadded(t *testing.T) {
	for _, test := range []struct {
		encoding string // 9 bytes of it are read, so that one byte of padding follows
		ok       bool
	}{
		{"123456789\x00", true},
		{"123456789", false},
		{"123456789\x00\x00", false},
		{"123456789\x01", false},
	} {
		c := newCursor([]byte(test.encoding))
		c.take(9)
		if err := c.endPadded(); (err == nil) != test.ok {
			t.Errorf("%q: %v", test.encoding, err)
		}
	}
}

func TestHeader(t *testing.T) {
	good := "cairn\x00I\x01" + strings.Repeat("r", 32) + "\x02\x00\x00\x00\x03\x00\x00\x00"
	h, err := parseHeader([]byte(good+"more"), kindSegment)
	if err != nil {
		t.Fatal(err)
	}
	if h.kind != kindSegment || h.repo != ID([]byte(strings.Repeat("r", 32))) || h.realm != (realm{domain: 3, epoch: 2}) {
		t.Errorf("header is %+v", h)
	}
	if string(h.raw) != good {
		t.Errorf("raw header is %q", h.raw)
	}
	for name, bad := range map[string]string{
		"short":   good[:47],
		"magic":   "c" + good,
		"kind":    strings.Replace(good, "I", "S", 1),
		"version": strings.Replace(good, "\x01", "\x02", 1),
		"epoch 0": strings.Replace(good, "\x02", "\x00", 1),
	} {
		if _, err := parseHeader([]byte(bad), kindSegment); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	config := strings.Replace(good, "I", "C", 1)
	if _, err := parseHeader([]byte(config), kindConfig); err == nil {
		t.Error("config with an epoch: no error")
	}
}

func TestKeyPath(t *testing.T) {
	for key, want := range map[string]string{
		"":                "/",
		"\x00srv":         "/srv",
		"\x00srv\x00x":    "/srv/x",
		"stdin":           "stdin",
		"stdin\x00dump":   "stdin/dump",
		"\x00\xff\x00..a": "/\xff/..a",
	} {
		if got := keyPath(key); got != want {
			t.Errorf("keyPath(%q) = %q, want %q", key, got, want)
		}
		if !validKey([]byte(key)) {
			t.Errorf("key %q is refused", key)
		}
	}
	for _, key := range []string{"\x00", "a\x00", "a\x00\x00b", "a/b", ".", "\x00..", "\x00a\x00.", "\x00" + strings.Repeat("x", 256)} {
		if validKey([]byte(key)) {
			t.Errorf("key %q is accepted", key)
		}
	}
	for key, want := range map[string]string{"\x00srv": "", "\x00srv\x00x": "\x00srv", "stdin\x00dump": "stdin"} {
		if got, ok := parentKey(key); !ok || got != want {
			t.Errorf("parentKey(%q) = %q, %v, want %q", key, got, ok, want)
		}
	}
	for _, key := range []string{"", "stdin"} {
		if got, ok := parentKey(key); ok {
			t.Errorf("parentKey(%q) = %q, want none", key, got)
		}
	}
}

func TestNames(t *testing.T) {
	id := strings.Repeat("0a", 32)
	if got, ok := parseID(id); !ok || got.String() != id {
		t.Errorf("parseID(%q) = %v, %v", id, got, ok)
	}
	for _, name := range []string{"", id[1:], id + "00", strings.ToUpper(id), id[:63] + "g"} {
		if _, ok := parseID(name); ok {
			t.Errorf("parseID(%q) accepts", name)
		}
	}
	if n, ok := beatNumber("beat-12"); !ok || n != 12 {
		t.Errorf("beat-12: %d, %v", n, ok)
	}
	for _, name := range []string{"beat-", "beat-0", "beat-01", "beat-+1", "beat", "1", "begin"} {
		if _, ok := beatNumber(name); ok {
			t.Errorf("%q is taken for a beat", name)
		}
	}
}
