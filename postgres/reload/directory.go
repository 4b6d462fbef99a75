package reload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/postgres/archive"
)

// Directory writes the database to a directory, as pg_dump -Fd does: dir is made, or is
// empty. The table of contents is written last, when the rest is on the disk, so that
// pg_restore takes no directory that is incomplete; if Directory fails, what it wrote stays
// there without it.
func (d *Database) Directory(ctx context.Context, dir string) error {
	if err := d.TOC.CheckItems(d.Items); err != nil {
		return err
	}
	if err := makeEmpty(dir); err != nil {
		return err
	}
	toc := d.TOC.Directory()
	files := filesOf(toc)
	for _, list := range d.lists(files) {
		if err := writeFile(dir, list.name, list.write); err != nil {
			return err
		}
	}
	for _, item := range d.Items {
		f := files[item.DumpID]
		err := writeFile(dir, f.of(item), func(w io.Writer) error {
			if err := d.copy(ctx, w, item); err != nil {
				return err
			}
			_, err := io.WriteString(w, f.end)
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := syncFileSystem(dir); err != nil {
		return err
	}
	write := func(w io.Writer) error { _, err := toc.WriteTo(w); return err }
	if err := writeFile(dir, archive.TOCFile, write); err != nil {
		return err
	}
	return syncFileSystem(dir)
}

// makeEmpty makes a directory, or finds it empty.
func makeEmpty(dir string) error {
	if err := os.Mkdir(dir, 0o700); err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty; name a directory that is, or that is not there", dir)
	}
	return nil
}

// file says where the contents of an entry are in a directory.
type file struct {
	name  string // of a table's rows, or of the list of large objects
	end   string // what follows contents
	blobs bool
}

func filesOf(directory *archive.TOC) map[int32]file {
	files := make(map[int32]file)
	for i := range directory.Entries {
		if e := &directory.Entries[i]; e.HasData {
			files[e.DumpID] = file{e.File.S, e.End(), e.Is(archive.KindBlobs)}
		}
	}
	return files
}

// of names the file of an item.
func (f file) of(item archive.Item) string {
	if f.blobs {
		return archive.BlobFile(item.OID)
	}
	return f.name
}

// list is a file that lists large objects.
type list struct {
	name string
	oids []uint32
}

func (l list) write(w io.Writer) error {
	_, err := w.Write(archive.AppendBlobs(nil, l.oids))
	return err
}

// lists returns one for each entry of large objects, also if it has none.
func (d *Database) lists(files map[int32]file) (all []list) {
	oids := make(map[int32][]uint32)
	for _, item := range d.Items {
		if item.OID != 0 {
			oids[item.DumpID] = append(oids[item.DumpID], item.OID)
		}
	}
	for i := range d.TOC.Entries {
		id := d.TOC.Entries[i].DumpID
		if f := files[id]; f.blobs {
			all = append(all, list{f.name, oids[id]})
		}
	}
	return all
}

// writeFile makes a file that is not there.
func writeFile(dir, name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// syncFileSystem puts all that was written on the disk: one call costs less than one for each
// file.
func syncFileSystem(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil && !errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("sync %s, so that it outlasts a loss of power: %w", dir, err)
	}
	return nil
}
