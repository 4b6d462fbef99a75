package tune

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cairn-backup/cairn/ingest"
)

// version is what is read of one of the paths, or of all of them if they are too many to be versions of
// the same.
type version struct {
	root  string   // the path, if it is the only one; a directory unless all of it is in large
	paths []string // for ingest
	large []part
}

// maxVersions is the number of paths up to which each is taken for a version of the same: what people
// keep of a dump by hand. Of more, as of /srv/*, each is something else.
const maxVersions = 8

// part is what is read of a large file.
type part struct {
	path    string
	windows []window
}

type window struct{ off, n int64 }

// wholeVersion is all of some paths. A single file is read as a stream, which has no name of its own.
func wholeVersion(paths []string) (version, error) {
	if len(paths) > 1 {
		return version{paths: paths}, nil
	}
	info, err := os.Stat(paths[0])
	if err != nil {
		return version{}, unreadable(paths[0], err)
	}
	if info.Mode().IsRegular() {
		return version{root: paths[0], large: []part{{paths[0], []window{{0, info.Size()}}}}}, nil
	}
	return version{root: paths[0], paths: paths}, nil
}

// through returns the paths as they are reached through a link to the root, so that every version has its
// files in the same place.
func (v version) through(link string) ([]string, error) {
	if v.root == "" || len(v.paths) == 0 {
		return v.paths, nil
	}
	os.Remove(link) // that of the version before
	if err := os.Symlink(v.root, link); err != nil {
		return nil, err
	}
	var out []string
	for _, p := range v.paths {
		if p != v.root {
			out = append(out, filepath.Join(link, strings.TrimPrefix(p, v.root)))
			continue
		}
		// A link that is named itself is taken as one: what is in its directory is named.
		entries, err := os.ReadDir(v.root)
		if err != nil {
			return nil, unreadable(v.root, err)
		}
		for _, e := range entries {
			out = append(out, filepath.Join(link, e.Name()))
		}
	}
	return out, nil
}

// open returns the parts of large files as streams, and what closes them.
func (v version) open(ctx context.Context) (streams []ingest.Stream, closeAll func()) {
	var open []*partReader
	for i, p := range v.large {
		r := &partReader{ctx: ctx, part: p}
		open = append(open, r)
		streams = append(streams, ingest.Stream{Name: strconv.Itoa(i), Reader: r})
	}
	return streams, func() {
		for _, r := range open {
			r.close()
		}
	}
}

// partReader reads the windows of a file. The file is open only meanwhile.
type partReader struct {
	ctx context.Context
	part
	f    *os.File
	done int64 // of the first window
}

func (r *partReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if len(r.windows) == 0 {
		r.close()
		return 0, io.EOF
	}
	if r.f == nil {
		f, err := os.Open(r.path)
		if err != nil {
			return 0, err
		}
		r.f = f
	}
	w := r.windows[0]
	n, err := r.f.ReadAt(p[:min(int64(len(p)), w.n-r.done)], w.off+r.done)
	r.done += int64(n)
	if err == io.EOF { // it has shrunk
		r.windows, err = nil, nil
	}
	if r.done == w.n && len(r.windows) > 0 {
		r.windows, r.done = r.windows[1:], 0
	}
	return n, err
}

func (r *partReader) close() {
	if r.f != nil {
		r.f.Close()
		r.f = nil
	}
}

// read reads a version.
func (v version) read(ctx context.Context, o Options, drain func(path string, r io.Reader) error) error {
	err := walk(ctx, v.paths, func(string, error) {}, func(path string, _ int64) {
		f, err := os.Open(path)
		if err != nil {
			o.Observer.problem(path, err)
			return
		}
		defer f.Close()
		drain(path, f) // which only the end of ctx stops, and then walk as well
	})
	if err != nil {
		return err
	}
	streams, closeAll := v.open(ctx)
	defer closeAll()
	for i, st := range streams {
		if err := drain(v.large[i].path, st.Reader); err != nil {
			return err
		}
	}
	return nil
}
