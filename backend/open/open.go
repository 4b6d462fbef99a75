// Package open turns what a user writes for a repository into a storage. It is
// the one package that knows all storages, and only programs import it.
//
//	/srv/backup, backup, ./backup   a directory
//	file:///srv/backup              the same, as a URL
package open

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/local"
)

// supported is for messages.
const supported = "a path, or file:///path"

// URL opens the storage that is at a URL or path. It writes nothing. If there is
// none, the error is fs.ErrNotExist or backend.ErrNotExist, as the storage has it.
func URL(location string) (backend.Interface, error) {
	dir, err := parse(location)
	if err != nil {
		return nil, err
	}
	l, err := local.Open(dir)
	if err != nil {
		return nil, err // and not a nil *Local that is no nil Interface
	}
	return l, nil
}

// Dir returns the directory that a location stands for, or "" if it is none.
func Dir(location string) string {
	dir, _ := parse(location)
	return dir
}

// Create makes the storage at a URL or path, if it is not there yet, and opens it.
func Create(location string) (backend.Interface, error) {
	dir, err := parse(location)
	if err != nil {
		return nil, err
	}
	l, err := local.Create(dir)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// parse returns the directory that a location stands for. Its errors repeat
// nothing of a URL but its scheme, as there may be a password anywhere else.
func parse(location string) (dir string, err error) {
	if location == "" {
		return "", fmt.Errorf("no repository location given; use %s", supported)
	}
	scheme, isURL := splitScheme(location)
	if !isURL {
		return location, nil
	}
	u, err := url.Parse(location)
	if err != nil {
		// The error of net/url quotes the URL.
		return "", fmt.Errorf("malformed %s: URL; use %s", scheme, supported)
	}
	if hasSecret(u) {
		return "", errors.New("the repository URL contains a password, which the process list and the shell's history would show; " +
			"remove it, and give it through the environment or a file")
	}
	if scheme != "file" {
		return "", fmt.Errorf("unsupported repository scheme %s:; use %s (./%s:... is a directory of that name)", scheme, supported, scheme)
	}
	switch {
	case u.User != nil, u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return "", errors.New("a file: URL takes nothing but a path; write ? and # as %3F and %23")
	case u.Host != "" && u.Host != "localhost":
		return "", errors.New("a file: URL takes no host; use file:///path with three slashes")
	case !strings.HasPrefix(u.Path, "/"):
		return "", errors.New("a file: URL takes an absolute path; use file:///path, or a plain relative path")
	case strings.ContainsRune(u.Path, 0):
		return "", errors.New("a file: URL takes no zero byte")
	}
	return u.Path, nil
}

// splitScheme finds the scheme of a URL in lower case. A path whose first component
// has a colon after letters (s3:bucket, host:dir) counts as one, since a
// directory of that name is hardly what is meant.
func splitScheme(location string) (scheme string, ok bool) {
	scheme, _, ok = strings.Cut(location, ":")
	if !ok || scheme == "" {
		return "", false
	}
	for i, c := range []byte(strings.ToLower(scheme)) {
		letter := 'a' <= c && c <= 'z'
		other := '0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'
		if !letter && (i == 0 || !other) {
			return "", false
		}
	}
	return strings.ToLower(scheme), true
}

// hasSecret reports whether a URL has a password, where URLs have one or where
// people put one.
func hasSecret(u *url.URL) bool {
	if _, ok := u.User.Password(); ok {
		return true
	}
	for key := range u.Query() {
		key = strings.ToLower(key)
		if strings.Contains(key, "password") || strings.Contains(key, "passwd") || strings.Contains(key, "secret") {
			return true
		}
	}
	return false
}
