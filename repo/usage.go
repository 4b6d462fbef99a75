package repo

import (
	"context"
	"fmt"
	"strings"
)

// Usage is what a repository takes in its storage.
type Usage struct {
	DataPacks, MetaPacks             int
	DataBytes, MetaBytes, IndexBytes int64
	OtherBytes                       int64 // manifests, keys, config
	Chunks                           int64 // in the index
}

// Bytes returns the bytes of all objects.
func (u Usage) Bytes() int64 { return u.DataBytes + u.MetaBytes + u.IndexBytes + u.OtherBytes }

// Usage lists the storage and counts.
func (r *Repository) Usage(ctx context.Context) (Usage, error) {
	var u Usage
	if err := r.loadIndex(ctx, nil); err != nil {
		return u, err
	}
	local, err := r.index()
	if err != nil {
		return u, err
	}
	stats, err := local.Stats()
	if err != nil {
		return u, fmt.Errorf("read the local index: %w", err)
	}
	u.Chunks = stats.Chunks
	for info, err := range r.storage.List(ctx, "") {
		if err != nil {
			return u, fmt.Errorf("list the storage: %w", err)
		}
		switch {
		case strings.HasPrefix(info.Name, dataPrefix):
			u.DataPacks++
			u.DataBytes += info.Size
		case strings.HasPrefix(info.Name, metaPrefix):
			u.MetaPacks++
			u.MetaBytes += info.Size
		case strings.HasPrefix(info.Name, indexPrefix):
			u.IndexBytes += info.Size
		default:
			u.OtherBytes += info.Size
		}
	}
	return u, nil
}
