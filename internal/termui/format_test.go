package termui_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/internal/termui"
)

// TestMain sets the local time for TestTime before anything else can read it.
func TestMain(m *testing.M) {
	time.Local = time.FixedZone("CET", 3600)
	m.Run()
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1075: "1.0 KiB", 1076: "1.1 KiB",
		1<<20 - 1: "1.0 MiB", 1<<20 - 52: "1023.9 KiB", 1 << 20: "1.0 MiB", 1288490189: "1.2 GiB", 1<<40 - 1: "1.0 TiB",
		1 << 50: "1.0 PiB", math.MaxInt64: "8.0 EiB", math.MinInt64: "-8.0 EiB", -1536: "-1.5 KiB", -5: "-5 B",
	} {
		if got := termui.Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 7: "7", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -999: "-999", math.MinInt64: "-9,223,372,036,854,775,808",
	} {
		if got := termui.Count(n); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestRate(t *testing.T) {
	for _, tc := range []struct {
		n    int64
		d    time.Duration
		want string
	}{
		{10 << 20, 4 * time.Second, "2.5 MiB/s"}, {1, time.Second, "1 B/s"}, {0, time.Second, "0 B/s"},
		{5, 0, "-"}, {5, -1, "-"}, {math.MaxInt64, 1, "-"},
	} {
		if got := termui.Rate(tc.n, tc.d); got != tc.want {
			t.Errorf("Rate(%d, %v) = %q, want %q", tc.n, tc.d, got, tc.want)
		}
	}
}

func TestDuration(t *testing.T) {
	for in, want := range map[string]string{
		"0s": "0s", "10us": "<1ms", "1ms": "1ms", "12.4ms": "12ms", "99.4ms": "99ms", "99.6ms": "0.1s", "840ms": "0.8s",
		"9.94s": "9.9s", "9.96s": "10s", "42.4s": "42s", "59.6s": "1m00s", "4m12s": "4m12s", "59m59.6s": "1h00m00s",
		"3h4m12s": "3h04m12s", "23h59m59.6s": "1d00h00m", "51h4m40s": "2d03h05m", "-840ms": "-0.8s",
	} {
		d, err := time.ParseDuration(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := termui.Duration(d); got != want {
			t.Errorf("Duration(%s) = %q, want %q", in, got, want)
		}
	}
	if got := termui.Duration(math.MinInt64); got != "-106751d23h47m" {
		t.Errorf("the smallest duration: %q", got)
	}
}

func TestTime(t *testing.T) {
	if got := termui.Time(time.Date(2026, 11, 22, 22, 45, 53, 999, time.UTC)); got != "2026-11-22 23:45:53 +01:00" {
		t.Error(got)
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "4096": 4096, "4096B": 4096, "500K": 500 << 10, "500k": 500 << 10, "10MiB": 10 << 20, "10mib": 10 << 20,
		"1.5GB": 1.5e9, "1.5GiB": 3 << 29, "1.2 GiB": 1288490188, "0.5K": 512, "1.7": 1, "2T": 2 << 40, "1P": 1 << 50, "1EB": 1e18,
		"7.999999999999999999E": math.MaxInt64 - 1, "9223372036854775807": math.MaxInt64, "007": 7,
	} {
		if got, err := termui.ParseSize(in); got != want || err != nil {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "B", "KiB", "x", "-1", "+1", "1e3", "1/2", "0x10", "1_000", "1.2.3", ".5", "5.", ".", "1 0", " 5", "5 ZiB", "5KiBs", "5K B", "∞",
		"9223372036854775808", "8E", strings.Repeat("9", 100), "1,5K", "1\u00a0K",
	} {
		got, err := termui.ParseSize(in)
		if err == nil {
			t.Errorf("ParseSize(%q) = %d", in, got)
		} else if !strings.Contains(err.Error(), "10MiB") {
			t.Errorf("ParseSize(%q): %v does not say what to write", in, err)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"10MiB", "1.5GB", "500K", "0", "9223372036854775807", "1. K", "1e9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := termui.ParseSize(s)
		if err != nil {
			return
		}
		if n < 0 {
			t.Fatalf("ParseSize(%q) = %d", s, n)
		}
		// What Size writes is at most half a tenth of a unit from n.
		back, err := termui.ParseSize(termui.Size(n))
		if err != nil && n < 1<<62 {
			t.Fatalf("%d becomes %s: %v", n, termui.Size(n), err)
		}
		if err == nil && math.Abs(float64(back-n)) > float64(n)*0.051 {
			t.Fatalf("%d becomes %s becomes %d", n, termui.Size(n), back)
		}
	})
}
