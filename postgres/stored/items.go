package stored

import (
	"context"
	"fmt"
	"io"
	"path"

	"github.com/cairn-backup/cairn/postgres"
	"github.com/cairn-backup/cairn/postgres/archive"
)

// Items lists the contents that belong to the table of contents, in its order. The error says
// what of them is missing: also of large objects, which nothing but their number may tell.
func (d *Database) Items(ctx context.Context) ([]archive.Item, error) {
	blobs, err := d.blobs(ctx)
	if err != nil {
		return nil, err
	}
	var items []archive.Item
	for i := range d.TOC.Entries {
		e := &d.TOC.Entries[i]
		t := d.tables[int(e.DumpID)]
		switch {
		case !e.HasData:
		case e.Is(archive.KindBlobs):
			items = append(items, blobs[e.DumpID]...)
		case t == nil:
			return nil, fmt.Errorf("%s: nothing is recorded of the rows of %s", d.Key.Path(), e.Relation())
		default:
			items = append(items, archive.Item{DumpID: e.DumpID, Size: t.Bytes})
		}
	}
	return items, d.hasAllBlobs(items)
}

// hasAllBlobs returns an error if items has other large objects than were recorded.
func (d *Database) hasAllBlobs(items []archive.Item) error {
	var got postgres.Totals
	for _, item := range items {
		if item.OID != 0 {
			got.Rows++
			got.Bytes += item.Size
		}
	}
	if want := d.Record.BlobTotals; got != want {
		return fmt.Errorf("%s has %d large objects of %d bytes for its table of contents, and %d of %d bytes were recorded", d.Key.Path(), got.Rows, got.Bytes, want.Rows, want.Bytes)
	}
	return nil
}

// blobs returns the large objects by the dump ID of their group.
func (d *Database) blobs(ctx context.Context) (map[int32][]archive.Item, error) {
	sizes := make(map[uint32]int64)
	var order []uint32
	for b, err := range d.Blobs(ctx) {
		if err != nil {
			return nil, err
		}
		sizes[b.OID] = int64(b.Size)
		order = append(order, b.OID)
	}
	groups := make(map[int32][]archive.Item)
	for _, g := range d.Record.Blobs {
		id := int32(g.DumpID)
		oids := g.OIDs
		if len(d.Record.Blobs) == 1 {
			oids = order
		}
		for _, oid := range oids {
			size, ok := sizes[oid]
			if !ok {
				return nil, fmt.Errorf("%s: large object %d is missing", d.Key.Path(), oid)
			}
			groups[id] = append(groups[id], archive.Item{DumpID: id, OID: oid, Size: size})
		}
	}
	return groups, nil
}

// Open opens one of Items.
func (d *Database) Open(ctx context.Context, item archive.Item) (io.Reader, error) {
	file, err := d.file(item)
	if err != nil {
		return nil, err
	}
	in, size, err := d.File(ctx, file)
	if err == nil && int64(size) != item.Size {
		err = fmt.Errorf("%s/%s has %d bytes, and %d were recorded", d.Key.Path(), file, size, item.Size)
	}
	return in, err
}

// file returns the path of an item.
func (d *Database) file(item archive.Item) (string, error) {
	if item.OID != 0 {
		return path.Join(postgres.BlobsDir, postgres.BlobFile(item.OID)), nil
	}
	if t := d.tables[int(item.DumpID)]; t != nil {
		return t.File, nil
	}
	return "", fmt.Errorf("%s: nothing is recorded of entry %d", d.Key.Path(), item.DumpID)
}

// TableOf returns the table of an item, nil if it is a large object.
func (d *Database) TableOf(item archive.Item) *postgres.Table {
	if item.OID != 0 {
		return nil
	}
	return d.tables[int(item.DumpID)]
}
