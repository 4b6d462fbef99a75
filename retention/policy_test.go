package retention_test

import (
	"errors"
	"testing"

	"github.com/cairn-backup/cairn/retention"
)

func TestParseSpan(t *testing.T) {
	for s, want := range map[string]retention.Span{
		"1y2m3d4h": {1, 2, 3, 4}, "30d": {Days: 30}, "4h1y": {Years: 1, Hours: 4}, "0y7d": {Days: 7}, "18m": {Months: 18}, "1000000h": {Hours: 1000000},
	} {
		if got, err := retention.ParseSpan(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0d", "d", "1", "1w", "-1d", "1d1d", "1d ", "1.5d", "1000001h", "99999999999999999999y", "1D", "1µ", "unlimited"} {
		if got, err := retention.ParseSpan(s); err == nil {
			t.Errorf("%q: %+v", s, got)
		}
	}
}

func FuzzParseSpan(f *testing.F) {
	f.Add("1y2m3d4h")
	f.Fuzz(func(t *testing.T, s string) {
		x, err := retention.ParseSpan(s)
		if err != nil {
			return
		}
		if again, err := retention.ParseSpan(x.String()); err != nil || again != x {
			t.Errorf("%q is %+v, then %+v (%v)", s, x, again, err)
		}
	})
}

func TestParseCount(t *testing.T) {
	for s, want := range map[string]retention.Count{"0": 0, "12": 12, "unlimited": retention.Unlimited} {
		if got, err := retention.ParseCount(s); err != nil || got != want || got.String() != s {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "-1", "-5", "x", "1.5", "1x", "99999999999999999999"} {
		if got, err := retention.ParseCount(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestParseGroupBy(t *testing.T) {
	for s, want := range map[string]retention.GroupBy{
		"host,source": retention.DefaultGroupBy, "tag": {Tags: true}, "none": {}, "": {}, "source,tag,host": {true, true, true},
	} {
		if got, err := retention.ParseGroupBy(s); err != nil || got != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"paths", "host,", "host source", "none,host"} {
		if got, err := retention.ParseGroupBy(s); err == nil {
			t.Errorf("%q: %+v", s, got)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, p := range retention.Presets {
		if err := p.Validate(); err != nil {
			t.Errorf("preset %s: %v", name, err)
		}
	}
	for _, p := range []retention.Policy{{Last: 1}, {Yearly: retention.Unlimited}, {Tags: []string{"x"}}, {WithinDaily: retention.Span{Hours: 1}}} {
		if err := p.Validate(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if err := (&retention.Policy{}).Validate(); !errors.Is(err, retention.ErrKeepsNothing) {
		t.Error(err)
	}
	for _, p := range []retention.Policy{{Last: -2}, {Last: 1, Daily: -7}, {Within: retention.Span{Days: -1}}, {Within: retention.Span{Years: 1 << 40}}} {
		if err := p.Validate(); err == nil {
			t.Errorf("%+v is no policy", p)
		}
	}
}
