package connect

import (
	"slices"
	"strings"
	"testing"
)

// FuzzURL looks for URLs that are taken apart and put together again to something
// else.
func FuzzURL(f *testing.F) {
	for _, s := range []string{"postgres://", "postgres://shop", "postgresql://u@h:1,[::1]:2/a,b%2Cc?sslmode=require&options=-c%20x%3D1", "postgres://%2Frun%2Fx/db?dbname=y", "postgres://u:p@h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseURL(s)
		if err != nil {
			return
		}
		if p.bare != "" && (len(p.databases) > 0 || len(p.params) != 1 || p.params["host"] != p.bare) {
			t.Errorf("%q is bare, and is %q, %q", s, p.params, p.databases)
		}
		if err := check(p.params, "the URL"); err != nil {
			t.Errorf("%q: %v", s, err)
		}
		_, fromQuery := p.params["dbname"]
		if fromQuery {
			return
		}
		var names []string
		for _, db := range p.databases {
			if db == "" {
				t.Errorf("%q: an empty name", s)
			}
			var escaped strings.Builder
			for i := range len(db) {
				const hex = "0123456789abcdef"
				escaped.WriteString("%" + string(hex[db[i]>>4]) + string(hex[db[i]&15]))
			}
			names = append(names, escaped.String())
		}
		again, err := parseURL("postgres:///" + strings.Join(names, ","))
		if err != nil || !slices.Equal(again.databases, p.databases) {
			t.Errorf("%q: databases %q, and again %q, %v", s, p.databases, again, err)
		}
	})
}

// FuzzPassword puts a password into URLs in all manners: none may be taken, and none
// may show it.
func FuzzPassword(f *testing.F) {
	const secret = "hunter2"
	for _, around := range [][2]string{{"", ""}, {"1/", ""}, {"a@", "@b"}, {"#", "/"}, {"%", "%zz"}, {"[", "]"}, {":,", ":1"}} {
		f.Add(around[0], around[1])
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		// Behind a ? stand parameters, one of which may be the user's name.
		if strings.Contains(before+after, "?") || strings.Contains(before+after, secret) {
			return
		}
		s := "postgres://u:" + before + secret + after + "@h/db"
		if _, err := parseURL(s); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", s, err)
		}
	})
}
