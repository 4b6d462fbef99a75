// Package stored reads the databases of snapshots: what package capture put there.
package stored

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strconv"
	"sync"

	"github.com/cairn-backup/cairn/postgres"
	"github.com/cairn-backup/cairn/postgres/archive"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// Database is a database in a snapshot. It can be used by several goroutines at once.
type Database struct {
	Key    snapshot.Key
	Record *postgres.Record
	TOC    *archive.TOC

	repo   *repo.Repository
	tree   snapshot.Tree
	tables map[int]*postgres.Table // by dump ID

	// What is read of a database is mostly read in the order of the tree, and a cursor that goes on reads each node
	// once: looked up one by one, each large object would cost a node of hundreds of others.
	mu     sync.Mutex
	cursor *snapshot.Cursor
}

// ErrNoDatabase: a path is not that of a database.
var ErrNoDatabase = errors.New("is no captured PostgreSQL database")

// Bounds of what is read into memory. The table of contents of a million tables has some hundred
// megabytes.
const maxInMemory = 4 << 30

// Open reads what describes a database.
func Open(ctx context.Context, r *repo.Repository, root snapshot.Root, key snapshot.Key) (*Database, error) {
	d := &Database{Key: key, repo: r, tree: snapshot.Tree{Root: root, Source: r}}
	d.cursor = snapshot.NewCursor(d.tree)
	if !isPlace(key) {
		return nil, fmt.Errorf("%s %w", key.Path(), ErrNoDatabase)
	}
	record, err := d.read(ctx, postgres.RecordFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s %w: %w", key.Path(), ErrNoDatabase, err)
	}
	if err != nil {
		return nil, err
	}
	if d.Record, err = postgres.ParseRecord(record); err != nil {
		return nil, fmt.Errorf("%s: %w", key.Path(), err)
	}
	d.tables = make(map[int]*postgres.Table)
	for i := range d.Record.Tables {
		d.tables[d.Record.Tables[i].DumpID] = &d.Record.Tables[i]
	}
	in, _, err := d.File(ctx, postgres.TOCFile)
	if err != nil {
		return nil, err
	}
	if d.TOC, err = archive.ReadTOC(in); err != nil {
		return nil, fmt.Errorf("%s/%s: %w", key.Path(), postgres.TOCFile, err)
	}
	return d, nil
}

// isPlace reports whether a key is where a database would be.
func isPlace(key snapshot.Key) bool {
	parent, ok := key.Parent()
	return ok && string(parent) == postgres.Kind
}

// All returns the places of the databases of a snapshot.
func All(ctx context.Context, r *repo.Repository, root snapshot.Root) iter.Seq2[snapshot.Key, error] {
	return func(yield func(snapshot.Key, error) bool) {
		tree := snapshot.Tree{Root: root, Source: r}
		if e, err := tree.Lookup(ctx, snapshot.Key(postgres.Kind)); err != nil || e == nil {
			if err != nil {
				yield("", err)
			}
			return
		}
		for e, err := range tree.Children(ctx, snapshot.Key(postgres.Kind)) {
			if err != nil {
				yield("", err)
				return
			}
			if e.Type == snapshot.Directory && !yield(e.Key, nil) {
				return
			}
		}
	}
}

// Entry returns the entry of a file of the database; the error is fs.ErrNotExist if there is none.
func (d *Database) Entry(ctx context.Context, path string) (*snapshot.Entry, error) {
	key, err := snapshot.KeyOf(d.Key.Path() + "/" + path)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := d.cursor.Seek(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key.Path(), err)
	}
	if e == nil || e.Key != key || e.Type != snapshot.File {
		return nil, fmt.Errorf("%s: %w", key.Path(), fs.ErrNotExist)
	}
	found := *e // the cursor goes on
	return &found, nil
}

// File opens a file of the database, and says its size in bytes. What it reads was
// checked against its ID.
func (d *Database) File(ctx context.Context, path string) (io.Reader, uint64, error) {
	e, err := d.Entry(ctx, path)
	if err != nil {
		return nil, 0, err
	}
	return repo.NewFile(ctx, d.repo, e), e.Size, nil
}

func (d *Database) read(ctx context.Context, path string) ([]byte, error) {
	in, size, err := d.File(ctx, path)
	if err != nil {
		return nil, err
	}
	if size > maxInMemory {
		return nil, fmt.Errorf("%s/%s has %d bytes, which is more than cairn reads into memory", d.Key.Path(), path, size)
	}
	p, err := io.ReadAll(in)
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", d.Key.Path(), path, err)
	}
	return p, nil
}

// Globals returns the SQL for roles and tablespaces; the error is fs.ErrNotExist if they were not
// taken.
func (d *Database) Globals(ctx context.Context) ([]byte, error) {
	return d.read(ctx, postgres.GlobalsFile)
}

// Blob is a large object.
type Blob struct {
	OID  uint32
	Size uint64 // in bytes
}

// Blobs lists the large objects by their numbers.
func (d *Database) Blobs(ctx context.Context) iter.Seq2[Blob, error] {
	return func(yield func(Blob, error) bool) {
		dir := d.Key.Child(postgres.BlobsDir)
		if e, err := d.tree.Lookup(ctx, dir); err != nil || e == nil {
			if err != nil {
				yield(Blob{}, err)
			}
			return
		}
		for e, err := range d.tree.Children(ctx, dir) {
			var oid uint64
			if err == nil {
				if oid, err = strconv.ParseUint(e.Key.Base(), 10, 32); err != nil || postgres.BlobFile(uint32(oid)) != e.Key.Base() {
					err = fmt.Errorf("%s is not named like a large object", e.Key.Path())
				}
			}
			if err != nil {
				yield(Blob{}, err)
				return
			}
			if !yield(Blob{uint32(oid), e.Size}, nil) {
				return
			}
		}
	}
}
