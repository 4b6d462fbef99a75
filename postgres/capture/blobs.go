package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/cairn-backup/cairn/postgres"
	"github.com/cairn-backup/cairn/postgres/archive"
	"github.com/cairn-backup/cairn/snapshot"
)

// blobs delivers the large objects, which a second pg_dump reads in the same snapshot. It dumps
// the same objects, but no rows of tables.
func (r *run) blobs(ctx context.Context, toc *archive.TOC) error {
	var groups []int // dump IDs, in the order of the archive
	for i := range toc.Entries {
		if e := &toc.Entries[i]; e.HasData && e.Is(archive.KindBlobs) {
			groups = append(groups, int(e.DumpID))
		}
	}
	if len(groups) == 0 {
		return nil
	}
	// A pattern with a dot fits in all schemas, one without only those in the search path.
	p, err := r.start(ctx, r.programs.Dump, r.dumpArgs("--exclude-table-data=*.*")...)
	if err != nil {
		return err
	}
	if err := r.readBlobs(p, groups); err != nil {
		if ctx.Err() != nil {
			return errors.Join(err, p.stop())
		}
		return p.ended(err)
	}
	return p.wait()
}

func (r *run) readBlobs(p *program, groups []int) error {
	toc, err := archive.ReadTOC(p.out)
	if err != nil {
		return err
	}
	data := archive.NewData(p.out, toc)
	nth := make(map[int32]int) // dump ID in this archive -> group
	for i := range toc.Entries {
		if e := &toc.Entries[i]; e.HasData && e.Is(archive.KindBlobs) {
			nth[e.DumpID] = len(nth)
		}
	}
	if len(nth) != len(groups) {
		return fmt.Errorf("the archive has %d groups of large objects, and another of the same snapshot has %d", len(nth), len(groups))
	}
	r.record.Blobs = make([]postgres.BlobGroup, len(groups))
	for i, id := range groups {
		r.record.Blobs[i].DumpID = id
	}
	for {
		item, err := data.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		group, ok := nth[item.DumpID]
		if !ok {
			return fmt.Errorf("the archive has contents of a table, which were not asked for (entry %d)", item.DumpID)
		}
		size, err := r.stream(path.Join(postgres.BlobsDir, postgres.BlobFile(item.OID)), data)
		if err != nil {
			return fmt.Errorf("large object %d: %w", item.OID, err)
		}
		r.record.BlobTotals.Rows++
		r.record.BlobTotals.Bytes += int64(size)
		if len(groups) > 1 {
			b := &r.record.Blobs[group]
			b.OIDs = append(b.OIDs, item.OID)
		}
	}
	return nil
}

// entry begins the entry of a file. Only its owner can read what is restored of it.
func (r *run) entry(path string) (snapshot.Entry, error) {
	key, err := r.to.Key(path)
	if err != nil {
		return snapshot.Entry{}, fmt.Errorf("%s: %w", path, err)
	}
	return snapshot.Entry{Key: key, Type: snapshot.File, Mode: 0o600, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Mtime: r.to.Now(), Ctime: r.to.Now()}, nil
}
