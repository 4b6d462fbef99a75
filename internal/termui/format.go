package termui

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Size returns n bytes in IEC units with one decimal: "0 B", "1023 B",
// "1.2 GiB".
func Size(n int64) string {
	u, sign := magnitude(n)
	if u < 1024 {
		return fmt.Sprintf("%s%d B", sign, u)
	}
	exp := 0
	for u>>(10*exp) >= 1024 {
		exp++
	}
	// In integers, as a float64 does not hold every int64.
	unit := uint64(1) << (10 * exp)
	whole, tenths := u/unit, (u%unit*10+unit/2)/unit
	if tenths == 10 {
		whole, tenths = whole+1, 0
	}
	if whole == 1024 {
		whole, exp = 1, exp+1
	}
	return fmt.Sprintf("%s%d.%d %ciB", sign, whole, tenths, " KMGTPE"[exp])
}

// Count returns n with a comma between groups of three digits: "1,234,567".
func Count(n int64) string {
	u, sign := magnitude(n)
	digits := strconv.FormatUint(u, 10)
	var b strings.Builder
	b.WriteString(sign)
	for i, c := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// magnitude returns |n|, also of the smallest int64, and "-" or "".
func magnitude(n int64) (uint64, string) {
	if n < 0 {
		return -uint64(n), "-"
	}
	return uint64(n), ""
}

// Rate returns n bytes in d as bytes a second: "12.3 MiB/s", or "-" if d is not
// above zero.
func Rate(n int64, d time.Duration) string {
	if d <= 0 {
		return "-"
	}
	r := math.Round(float64(n) / d.Seconds())
	if math.Abs(r) >= math.MaxInt64 {
		return "-"
	}
	return Size(int64(r)) + "/s"
}

// Duration returns d with as much precision as people care for: "0s", "12ms",
// "0.8s", "42s", "4m12s", "3h04m12s", "2d03h04m".
func Duration(d time.Duration) string {
	if d < 0 {
		return "-" + Duration(-max(d, -math.MaxInt64))
	}
	const day = 24 * time.Hour
	switch {
	case d == 0:
		return "0s"
	case d < time.Millisecond:
		return "<1ms"
	case d.Round(time.Millisecond) < 100*time.Millisecond:
		return fmt.Sprintf("%dms", d.Round(time.Millisecond)/time.Millisecond)
	case d.Round(100*time.Millisecond) < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Round(100*time.Millisecond).Seconds())
	}
	d = d.Round(time.Second)
	h, m, s := d/time.Hour, d/time.Minute%60, d/time.Second%60
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", s)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", m, s)
	case d < day:
		return fmt.Sprintf("%dh%02dm%02ds", h, m, s)
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%dd%02dh%02dm", d/day, d/time.Hour%24, d/time.Minute%60)
}

// Time returns t in local time with its offset: "2026-11-22 23:45:53 +01:00".
func Time(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 -07:00") }

// sizeUnits are what may follow a number, in lower case. As in most tools that
// take a bare letter, "K" is 1024; "KB" is what the SI says.
var sizeUnits = map[string]int64{
	"": 1, "b": 1,
	"k": 1 << 10, "kib": 1 << 10, "kb": 1e3,
	"m": 1 << 20, "mib": 1 << 20, "mb": 1e6,
	"g": 1 << 30, "gib": 1 << 30, "gb": 1e9,
	"t": 1 << 40, "tib": 1 << 40, "tb": 1e12,
	"p": 1 << 50, "pib": 1 << 50, "pb": 1e15,
	"e": 1 << 60, "eib": 1 << 60, "eb": 1e18,
}

// ParseSize reads a number of bytes: "4096", "500K" (of 1024), "10MiB",
// "1.5GB" (of 1000^3), "1.2 GiB", in upper or lower case. A fraction of a byte
// is cut off. It reads what Size writes, as exactly as that is.
func ParseSize(s string) (int64, error) {
	fail := func(why string) (int64, error) {
		return 0, fmt.Errorf("size %q: %s; write it as 4096, 500K, 10MiB or 1.5GB", s, why)
	}
	number := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	unit, ok := sizeUnits[strings.ToLower(s[len(number):])]
	if !ok {
		return fail("unknown unit")
	}
	n, err := parseDecimal(strings.TrimRight(number, " "))
	if err != nil {
		return fail(err.Error())
	}
	n.Mul(n, new(big.Rat).SetInt64(unit))
	bytes := new(big.Int).Quo(n.Num(), n.Denom())
	if !bytes.IsInt64() {
		return fail("too large")
	}
	return bytes.Int64(), nil
}

// parseDecimal reads digits with at most one point among them, exactly.
func parseDecimal(s string) (*big.Rat, error) {
	if len(s) > 40 {
		return nil, errors.New("too many digits")
	}
	whole, fraction, _ := strings.Cut(s, ".")
	if whole == "" || strings.Trim(whole+fraction, "0123456789") != "" || strings.HasSuffix(s, ".") {
		return nil, errors.New("not a number")
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return nil, errors.New("not a number")
	}
	return r, nil
}
