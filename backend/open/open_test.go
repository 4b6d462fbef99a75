package open_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/backend/open"
)

func TestDirectories(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for location, want := range map[string]string{
		filepath.Join(dir, "a"):                 "a",
		"b":                                     "b",
		"./s3:bucket":                           "s3:bucket",
		"c/d/../e":                              "c/e",
		"file://" + dir + "/f":                  "f",
		"FILE://" + dir + "/f2":                 "f2",
		"file:" + dir + "/g":                    "g",
		"file://localhost" + dir + "/h":         "h",
		"file://" + dir + "/with%20space%3F%23": "with space?#",
		"with space, ümlaut, 50%, a?b#c":        "with space, ümlaut, 50%, a?b#c",
		filepath.Join(dir, "file:"):             "file:",
		"_x:y":                                  "_x:y",
	} {
		if _, err := open.URL(location); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("URL(%q) before Create: %v", location, err)
		}
		b, err := open.Create(location)
		if err != nil {
			t.Errorf("Create(%q): %v", location, err)
			continue
		}
		if got := filepath.Join(dir, want); b.String() != got {
			t.Errorf("Create(%q) made %s, want %s", location, b, got)
		}
		if info, err := os.Stat(filepath.Join(dir, want)); err != nil || !info.IsDir() {
			t.Errorf("Create(%q): %v", location, err)
		}
		if b, err := open.URL(location); err != nil || b.String() != filepath.Join(dir, want) {
			t.Errorf("URL(%q) = %v, %v", location, b, err)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Chdir(t.TempDir())
	for location, text := range map[string]string{
		"":                                     "no repository",
		"s3://bucket/prefix":                   "file:///path",
		"s3:bucket":                            "./s3:",
		"sftp://host/dir":                      "unsupported repository scheme sftp",
		"host:dir":                             "unsupported repository scheme host",
		"https://example.org/":                 "unsupported",
		"file://host/path":                     "host",
		"file://":                              "absolute",
		"file:relative":                        "absolute",
		"file:":                                "absolute",
		"file:///a?b":                          "%3F",
		"file:///a?":                           "%3F",
		"file:///a#b":                          "%23",
		"file://me@/a":                         "nothing but a path",
		"file:///a%00b":                        "zero",
		"file:///%zz":                          "malformed",
		"s3://key:hunter2@host/bucket":         "password",
		"file://me:hunter2@localhost/a":        "password",
		"s3://host/b?secret-key=hunter2":       "password",
		"s3://host/b?Password=hunter2":         "password",
		"s3://key:hunter2 with space@host/b":   "malformed",
		"postgres://me:hunter2@[::1/db":        "malformed",
		"hunter2://key:x@host":                 "password",
		"rest:https://me:hunter2@host:8000/db": "unsupported",
	} {
		for name, do := range map[string]func(string) error{
			"URL":    func(s string) error { _, err := open.URL(s); return err },
			"Create": func(s string) error { _, err := open.Create(s); return err },
		} {
			err := do(location)
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s(%q) = %v, want %q", name, location, err, text)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s(%q) tells the password: %v", name, location, err)
			}
		}
	}
	if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
		t.Errorf("made %v, %v", left, err)
	}
}

func TestNilInterface(t *testing.T) {
	if b, err := open.URL(filepath.Join(t.TempDir(), "none")); err == nil || b != nil {
		t.Errorf("URL = %v, %v; want a nil storage and an error", b, err)
	}
}

var isURL = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:`)

// FuzzURL looks for a URL whose error repeats its password.
func FuzzURL(f *testing.F) {
	f.Add("s3://key:", "@host/bucket?region=x")
	f.Add("file:///x?password=", "&a=b")
	f.Add("sftp://me:", "@[::1]:22/%zz")
	f.Fuzz(func(t *testing.T, before, after string) {
		const password = "hunter2-hunter2"
		if !isURL.MatchString(before) {
			return // a path
		}
		_, err := open.URL(before + password + after)
		var path *fs.PathError // that of a directory of this name, which is no secret
		if err != nil && strings.Contains(err.Error(), password) && !errors.As(err, &path) {
			t.Error(err)
		}
	})
}

func TestDir(t *testing.T) {
	for location, want := range map[string]string{
		"a/b": "a/b", "file:///a%20b": "/a b", "s3://bucket/x": "", "": "",
	} {
		if got := open.Dir(location); got != want {
			t.Errorf("Dir(%q) is %q, want %q", location, got, want)
		}
	}
}
