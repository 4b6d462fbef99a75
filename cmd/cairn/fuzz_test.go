package main

import (
	"errors"
	"testing"
	"time"
)

func FuzzParseSample(f *testing.F) {
	for _, s := range []string{"", "100%", "0.5%", "1e-3%", "10GiB", "1", "NaN%", "Inf%", "-1", "0x1p-2%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sample, err := parseSample(s)
		var usage *usageError
		switch {
		case err != nil && !errors.As(err, &usage):
			t.Errorf("%q: %v is no usage error", s, err)
		case err == nil && !(sample.Percent >= 0 && sample.Percent <= 100 && sample.Bytes >= 0):
			t.Errorf("%q is %+v", s, sample)
		case err == nil && s != "" && (sample.Percent > 0) == (sample.Bytes > 0):
			t.Errorf("%q is %+v: neither a part nor a size", s, sample)
		}
	})
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2024-02-29", "2024-02-29 23:59:60", "2024-01-02T03:04:05.000000001+14:00", "0000-01-01", "9999-12-31 23:59:59"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, err := parseTime(s)
		if err != nil {
			return
		}
		again, err := parseTime(at.Format(time.RFC3339Nano))
		if err != nil || !again.Equal(at) || !time.Unix(0, at.UnixNano()).Equal(at) {
			t.Errorf("%q is %s, and that is %s, %v", s, at, again, err)
		}
	})
}
