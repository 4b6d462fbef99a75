package repo

import "github.com/cairn-backup/cairn/pack"

// ownPack is a pack that this writer stored, or the one before it.
type ownPack struct{ size, raw, stored int64 } // bytes: of the pack, and as Added counts them

func ownPackOf(f pack.Finished) ownPack {
	p := ownPack{size: f.Size}
	for _, e := range f.Entries {
		p.raw += int64(e.Raw)
		p.stored += int64(e.Stored)
	}
	return p
}

// inherit counts what a writer before this one stored, as far as it is still there.
func (w *Writer) inherit(before *Writer) {
	for id, p := range before.own {
		if w.stays(id, p.size) {
			w.own[id] = p
			w.newBytes.Add(p.raw)
			w.stoBytes.Add(p.stored)
		}
	}
}

// Added returns the bytes of the chunks that were new so far, before and after
// compression and sealing, with those of the writer before (WriterOptions.After).
func (w *Writer) Added() (raw, stored int64) { return w.newBytes.Load(), w.stoBytes.Load() }
