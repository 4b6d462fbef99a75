package restore

import (
	"bytes"
	"container/list"
	"context"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/repo"
)

// keptChunks is how many bytes of bundles are kept for the stretches to come. Files of one
// bundle mostly stand together in the tree, but not those that came from an archive.
const keptChunks = 16 << 20

// chunkReader reads the chunks of stretches.
type chunkReader struct {
	*session
	kept  map[chunk.ID]*list.Element
	order list.List // of *keptChunk, the last used in front
	bytes int
}

type keptChunk struct {
	id    chunk.ID
	plain []byte
}

func newChunkReader(s *session) *chunkReader {
	return &chunkReader{session: s, kept: make(map[chunk.ID]*list.Element)}
}

// load reads the chunks of a stretch, each once. What is damaged is noted in the stretch.
func (c *chunkReader) load(ctx context.Context, st *stretch) error {
	st.chunks = make([]loaded, len(st.refs))
	var want []repo.Ref
	var at []int // their positions in the stretch
	for i, ref := range st.refs {
		if e := c.kept[ref.ID]; e != nil {
			c.order.MoveToFront(e)
			st.chunks[i].plain = e.Value.(*keptChunk).plain
			continue
		}
		want = append(want, ref)
		at = append(at, i)
		c.count.ReadBytes.Add(int64(st.sizes[i]))
	}
	c.count.ReadChunks.Add(int64(len(want)))
	if len(want) == 0 || c.o.DryRun {
		return nil
	}
	err := c.repo.Chunks(ctx, want, func(i int, plain []byte, err error) error {
		st.chunks[at[i]] = loaded{bytes.Clone(plain), err}
		return nil
	})
	if err != nil {
		return err
	}
	for _, i := range at {
		if st.shared[i] && st.chunks[i].err == nil {
			c.keep(st.refs[i].ID, st.chunks[i].plain)
		}
	}
	return nil
}

// keep keeps a chunk, and drops those that were not used for the longest time.
func (c *chunkReader) keep(id chunk.ID, plain []byte) {
	c.kept[id] = c.order.PushFront(&keptChunk{id, plain})
	c.bytes += len(plain)
	for c.bytes > keptChunks {
		last := c.order.Remove(c.order.Back()).(*keptChunk)
		delete(c.kept, last.id)
		c.bytes -= len(last.plain)
	}
}
