// Package cache is what one machine keeps of a repository: copies that spare
// reading the storage again, and a memory of what it saw there, by which it
// notices when the storage is set back.
//
// All of it may be deleted at any time. Copies come back from the storage (a write-only
// key can't fetch them again, and reads its sources anew once); the memory begins
// anew. Contents are sealed with a key of the repository, so a stolen disk without
// a key tells sizes (of compressed contents), and nothing else but what stands in
// the clear: a copy of config, which has no secrets, and the local index in
// index.bolt with IDs, places and lengths of chunks. Several processes may use one folder.
package cache

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/zeebo/blake3"

	"github.com/cairn-backup/cairn/seal"
)

// Dir is the cache of one repository.
type Dir struct {
	root      string // of all repositories
	path      string // of this one
	temporary bool
	key       *[32]byte
	codec     codec
}

// Open opens the cache of a repository below root and makes it if needed. If it can't
// be made, the Dir can still be used, as one that keeps nothing.
func Open(root string, id seal.RepositoryID) (*Dir, error) {
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	d := &Dir{root: root, path: filepath.Join(root, id.String()), codec: c}
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return d, fmt.Errorf("make cache folder: %w", err)
	}
	return d, nil
}

// Temporary makes a cache that Close removes.
func Temporary(id seal.RepositoryID) (*Dir, error) {
	root, err := os.MkdirTemp("", "cairn-")
	if err != nil {
		return nil, fmt.Errorf("make temporary cache: %w", err)
	}
	d, err := Open(root, id)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(root))
	}
	d.temporary = true
	return d, nil
}

// SetKey sets the key under which contents are sealed. Without it nothing is
// found and nothing kept.
func (d *Dir) SetKey(key [32]byte) { d.key = &key }

// Path returns the path of a file in the cache's folder, for those that keep
// files of their own there.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name) }

// Close removes a temporary cache.
func (d *Dir) Close() error {
	if !d.temporary {
		return nil
	}
	return os.RemoveAll(d.root)
}

func (d *Dir) file(class string, id [32]byte) string {
	name := fmt.Sprintf("%x", id)
	return filepath.Join(d.path, class, name[:1], name)
}

// Get returns the contents kept of a class under an ID. What is damaged
// counts as absent.
func (d *Dir) Get(class string, id [32]byte) ([]byte, bool) {
	if d.key == nil {
		return nil, false
	}
	name := d.file(class, id)
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, false
	}
	p, ok := d.codec.open(*d.key, additional(class, id), b)
	if !ok {
		os.Remove(name)
		return nil, false
	}
	d.touch(name)
	return p, true
}

// touch keeps a file that is used from being trimmed. Once a day is enough,
// and spares most of the writes.
func (d *Dir) touch(name string) {
	now := time.Now()
	if fi, err := os.Stat(name); err == nil && now.Sub(fi.ModTime()) > 24*time.Hour {
		os.Chtimes(name, now, now)
	}
}

// Has reports whether Get is likely to find something.
func (d *Dir) Has(class string, id [32]byte) bool {
	_, err := os.Stat(d.file(class, id))
	return err == nil && d.key != nil
}

// Put keeps contents of at most 32 MiB. A failure is not an error: a cache may
// forget.
func (d *Dir) Put(class string, id [32]byte, contents []byte) {
	if len(contents) <= maxContents {
		d.put(class, id, func() []byte { return d.codec.compress(contents) })
	}
}

// PutFrame is Put for contents that are compressed already, as one zstd frame. It returns how many
// bytes were written.
func (d *Dir) PutFrame(class string, id [32]byte, frame []byte) int {
	return d.put(class, id, func() []byte { return frame })
}

func (d *Dir) put(class string, id [32]byte, frame func() []byte) int {
	if d.key == nil {
		return 0
	}
	name := d.file(class, id)
	if _, err := os.Stat(name); err == nil {
		return 0
	}
	b := sealFrame(*d.key, additional(class, id), frame())
	err := writeFile(name, b)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(name), 0o700); err == nil {
			err = writeFile(name, b)
		}
	}
	if err != nil {
		return 0
	}
	return len(b)
}

func additional(class string, id [32]byte) []byte {
	return append([]byte("cairn v1 cache "+class+"\x00"), id[:]...)
}

// writeFile replaces a file. It does not wait for the disk: contents that a
// power cut spoils fail their seal and count as absent.
func writeFile(name string, b []byte) error {
	return replaceFile(name, b, func(*os.File) error { return nil })
}

// writeFileSync is writeFile for what has no seal. When the name is there, so are
// the contents, also after a power cut.
func writeFileSync(name string, b []byte) error {
	return replaceFile(name, b, (*os.File).Sync)
}

// replaceFile writes through a temporary file, so that no reader sees a part.
func replaceFile(name string, b []byte, sync func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-")
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = sync(f)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// Trim deletes the least recently used files of a class until they take at
// most limit bytes.
func (d *Dir) Trim(class string, limit int64) error {
	type file struct {
		path string
		size int64
		used time.Time
	}
	var files []file
	var total int64
	err := filepath.WalkDir(filepath.Join(d.path, class), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // files come and go under other processes
		}
		if fi, err := e.Info(); err == nil {
			files = append(files, file{path, fi.Size(), fi.ModTime()})
			total += fi.Size()
		}
		return nil
	})
	if err != nil {
		return err
	}
	sort.Slice(files, func(i, j int) bool { return files[i].used.Before(files[j].used) })
	for _, f := range files {
		if total <= limit {
			break
		}
		os.Remove(f.path)
		total -= f.size
	}
	return nil
}

// pinFile returns the file that says which repository is at a location.
func pinFile(root, location string) string {
	sum := blake3.Sum256([]byte(location))
	return filepath.Join(root, "locations", fmt.Sprintf("%x", sum[:16]))
}

// Pinned returns which repository a machine with the given cache saw at a location.
func Pinned(root, location string) (seal.RepositoryID, bool) {
	text, err := recall(pinFile(root, location))
	if err != nil {
		return seal.RepositoryID{}, false
	}
	id, err := seal.ParseRepositoryID(text)
	return id, err == nil
}

// Keep keeps a small object in the clear, in place of what was kept under that
// name. Unlike Put it needs no key, nor does Kept.
func (d *Dir) Keep(name string, object []byte) error {
	if kept, ok := d.Kept(name); ok && bytes.Equal(kept, object) {
		return nil
	}
	if err := writeFileSync(d.Path(name), object); err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	return nil
}

// Kept returns what Keep kept.
func (d *Dir) Kept(name string) ([]byte, bool) {
	b, err := os.ReadFile(d.Path(name))
	return b, err == nil
}

// KeepSealed keeps contents of at most 32 MiB under a key of the caller's, in place of
// what was kept under that name. Like Put it does not wait for the disk.
func (d *Dir) KeepSealed(name string, key [32]byte, contents []byte) error {
	if d.temporary || len(contents) > maxContents {
		return nil
	}
	if err := writeFile(d.Path(name), sealFrame(key, additional(name, [32]byte{}), d.codec.compress(contents))); err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	return nil
}

// KeptSealed returns what KeepSealed kept. What is damaged, or sealed under another
// key, counts as absent.
func (d *Dir) KeptSealed(name string, key [32]byte) ([]byte, bool) {
	b, err := os.ReadFile(d.Path(name))
	if err != nil {
		return nil, false
	}
	return d.codec.open(key, additional(name, [32]byte{}), b)
}

// Mismatch is the error of Pin if the repository is not what the machine remembers.
type Mismatch string

func (m Mismatch) Error() string { return string(m) }

// Pin remembers that the repository at a location has the given ID and config
// generation, or returns a Mismatch if the machine saw another one, or a later
// generation, there before. Any other error is one of the disk. What is damaged of
// the memory counts as absent.
func (d *Dir) Pin(location string, id seal.RepositoryID, generation uint64) error {
	known := pinFile(d.root, location)
	last := d.Path("generation")
	text, err := recall(known)
	if err != nil {
		return err
	}
	seenID, noID := seal.ParseRepositoryID(text)
	if noID == nil && seenID != id {
		return mismatch("this machine knows repository %s at %s, but finds %s: if you replaced it on purpose, delete %s", seenID.Short(), location, id.Short(), known)
	}
	if text, err = recall(last); err != nil {
		return err
	}
	seen, none := strconv.ParseUint(text, 10, 64)
	if none == nil && generation < seen {
		return mismatch("config of generation %d was set back: this machine saw generation %d; if you restored an old copy of the repository on purpose, delete %s", generation, seen, last)
	}
	// What is written comes after all that is compared: a disk that takes nothing
	// must not keep a mismatch from being seen.
	if noID != nil {
		err = d.remember(known, id.String())
	}
	if none != nil || generation > seen {
		err = errors.Join(err, d.remember(last, strconv.FormatUint(generation, 10)))
	}
	return err
}

// recall reads a line of the memory, empty if there is none. One that can't be read
// is not one that is not there.
func recall(name string) (string, error) {
	b, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read cache: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func mismatch(format string, args ...any) error { return Mismatch(fmt.Sprintf(format, args...)) }

func (d *Dir) remember(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("make cache folder: %w", err)
	}
	if err := writeFileSync(name, []byte(text+"\n")); err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	return nil
}

// Lines returns the lines of a small text file of the cache, none if it is not there.
func (d *Dir) Lines(name string) []string {
	b, err := os.ReadFile(d.Path(name))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b))
}

// SetLines replaces a small text file of the cache.
func (d *Dir) SetLines(name string, lines []string) error {
	return d.remember(d.Path(name), strings.Join(lines, "\n"))
}
