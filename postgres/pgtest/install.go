package pgtest

import (
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Extension is the name of the extension that only servers of this package have: with
// tables whose rows pg_dump is to take, all of one and some of another.
const Extension = "cairn_awkward"

//go:embed extension.control
var extensionControl []byte

//go:embed extension.sql
var extensionSQL []byte

// install makes an installation of PostgreSQL below the home that has an extension
// more than the one it stands for. The server finds its files from where its own is,
// so a copy of that one, among links to all else, is enough, and nothing is changed
// outside of the temporary directory.
func (h *home) install() error {
	var dirs [3]string
	for i, name := range []string{"--bindir", "--sharedir", "--pkglibdir"} {
		out, err := exec.Command(filepath.Join(h.bin, "pg_config"), name).Output()
		if err != nil {
			return fmt.Errorf("pg_config %s: %w", name, err)
		}
		dirs[i] = strings.TrimSpace(string(out))
	}
	bin, share, lib := dirs[0], dirs[1], dirs[2]
	root := h.dir + "/root" // stands for /
	for _, dir := range []string{bin, share + "/extension", filepath.Dir(lib)} {
		if err := os.MkdirAll(root+dir, 0o755); err != nil {
			return err
		}
	}
	if !isThere(root + lib) {
		if err := os.Symlink(lib, root+lib); err != nil {
			return err
		}
	}
	for _, dir := range []string{share, share + "/extension"} {
		if err := linkAll(dir, root+dir); err != nil {
			return err
		}
	}
	extension := root + share + "/extension/" + Extension
	if err := os.WriteFile(extension+".control", extensionControl, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(extension+"--1.0.sql", extensionSQL, 0o644); err != nil {
		return err
	}
	h.postgres = root + bin + "/postgres"
	return copyProgram(filepath.Join(h.bin, "postgres"), h.postgres)
}

// linkAll makes links in one directory to all that is in another, but for what the
// first one has.
func linkAll(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if path := filepath.Join(to, e.Name()); !isThere(path) {
			if err := os.Symlink(filepath.Join(from, e.Name()), path); err != nil {
				return err
			}
		}
	}
	return nil
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
