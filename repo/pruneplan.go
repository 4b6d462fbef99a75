package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
)

// unverified returns the packs that snapshots need and for which the admin does not vouch,
// as far as they are to be read.
func (p *pruner) unverified() (unread []*prunedPack) {
	for _, f := range p.packs {
		if f.isLive() && !f.vouched && !f.recent && (!f.cold || p.opts.Cold) {
			unread = append(unread, f)
		}
	}
	slices.SortFunc(unread, func(a, b *prunedPack) int { return a.id.Compare(b.id) })
	read := int64(0)
	return slices.DeleteFunc(unread, func(f *prunedPack) bool {
		if p.opts.MaxVerify > 0 && read+f.size > p.opts.MaxVerify {
			return true
		}
		read += f.size
		return false
	})
}

// verify reads the packs that snapshots need and for which the admin does not vouch, and
// signs for those that are good. From then on all writers share what is in them.
func (p *pruner) verify(ctx context.Context) (err error) {
	unread := p.unverified()
	segments := newSegments(p.Repository)
	known := p.openVerified()
	defer func() { err = errors.Join(err, known.save()) }()
	for n, f := range unread {
		p.progress("packs of other writers", int64(n), int64(len(unread)))
		if err := p.countersign(ctx, f, known, segments); err != nil {
			return err
		}
	}
	if err := segments.flush(ctx); err != nil {
		return err
	}
	if p.report.Verified.Packs == 0 {
		return nil
	}
	p.orphans = slices.DeleteFunc(p.orphans, func(o orphan) bool { return o.in.vouched }) // they are in the index now
	return p.settle()                                                                     // their directories may say something else than was said of them
}

// countersign reads a pack and, if it is good, names it in a segment.
func (p *pruner) countersign(ctx context.Context, f *prunedPack, known *verified, segments segmentWriters) error {
	info := backend.Info{Name: packName(f.kind, f.id), Size: f.size}
	s, err := p.readPack(ctx, info)
	if err != nil {
		return err
	}
	if err := known.note(info, s.err == nil); err != nil {
		return err
	}
	if s.err != nil {
		p.damagedPack(f, s.err)
		return nil
	}
	if len(s.baseless) > 0 {
		// It may be said to have anything under their names. So others than its writer
		// don't share what is in it; it stays as long as it is needed.
		return nil
	}
	if err := p.makeDurable(ctx, info); err != nil {
		return err
	}
	k, err := p.packKey(ctx, f.id, f.kind)
	if err != nil {
		return err
	}
	if err := segments.of(k.Header.Place).add(ctx, []pack.Finished{{ID: f.id, Kind: f.kind, Size: f.size, Entries: s.entries}}); err != nil {
		return err
	}
	f.vouched = true
	p.report.Verified.add(f.size)
	return nil
}

// makeDurable makes sure that a pack that is seen stays: its writer may have died before
// that was so, unless a segment names it. That it can't be put again promises it.
func (p *pruner) makeDurable(ctx context.Context, info backend.Info) error {
	body := storedObject{ctx, p.storage, info.Name}
	err := p.storage.Put(ctx, info.Name, body, info.Size)
	if err != nil && !errors.Is(err, backend.ErrExist) {
		return fmt.Errorf("make sure of a pack: %w", err)
	}
	return nil
}

// storedObject reads an object that is stored.
type storedObject struct {
	ctx     context.Context
	storage backend.Interface
	name    string
}

// ReadAt implements io.ReaderAt.
func (o storedObject) ReadAt(p []byte, off int64) (int, error) {
	if err := o.storage.ReadAt(o.ctx, o.name, p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// damagedPack notes a pack that can't be trusted to be read. It stays, as repair can save
// what is good in it.
func (p *pruner) damagedPack(f *prunedPack, err error) {
	p.broken[f.id] = true
	f.fixed, f.damaged = true, true
	p.Repository.opts.Observer.warn(fmt.Errorf("a damaged pack stays as it is; cairn repair saves what is good in it: %w", err))
}

// plan says which packs to delete, and which to write anew.
func (p *pruner) plan() (gone, again []pack.ID) {
	p.report.Live, p.report.Unused, p.report.Recent, p.report.Cold, p.report.Later = 0, 0, Amount{}, Amount{}, Amount{}
	var partly []*prunedPack
	var stay int64
	for id, f := range p.packs {
		if p.condemned[id] && !f.isLive() {
			continue
		}
		p.report.Live += f.live
		switch {
		case f.isLive():
			stay += f.all
			p.report.Unused += f.all - f.live
			if f.all > f.live && !f.fixed && !f.recent && (f.vouched || f.assumed) && (!f.cold || p.opts.Cold) && !p.condemned[id] {
				partly = append(partly, f)
			}
		case !f.named: // nothing is known of it
		case f.recent:
			p.report.Recent.add(f.size)
		case f.cold && !p.opts.Cold:
			p.report.Cold.add(f.size)
		default:
			gone = append(gone, id)
		}
	}
	slices.SortFunc(gone, pack.ID.Compare)
	most := cmp.Or(p.atOnce, condemnAtOnce)
	if len(gone) > most {
		for _, id := range gone[most:] {
			p.report.Later.add(p.packs[id].size)
		}
		gone = gone[:most]
	}
	return gone, p.planRepack(partly, stay, most-len(gone))
}

// planRepack chooses the packs to write anew, at most so many: those first of which the
// smallest part is needed, as they give most for the work.
func (p *pruner) planRepack(partly []*prunedPack, stay int64, most int) (again []pack.ID) {
	limit := p.opts.MaxUnused.Bytes
	if p.opts.MaxUnused.Percent > 0 {
		limit = int64(p.opts.MaxUnused.Percent / 100 * float64(stay))
	}
	slices.SortFunc(partly, func(a, b *prunedPack) int {
		return cmp.Or(cmp.Compare(float64(a.live)/float64(a.all), float64(b.live)/float64(b.all)), a.id.Compare(b.id))
	})
	unused, read := p.report.Unused, int64(0)
	for _, f := range partly {
		if unused <= limit || len(again) == most {
			break
		}
		if p.opts.MaxRepack > 0 && read+f.size > p.opts.MaxRepack {
			continue
		}
		read += f.size
		unused -= f.all - f.live
		again = append(again, f.id)
	}
	return again
}

// packSizeOf estimates the bytes that what lives in a pack takes in another.
func packSizeOf(f *prunedPack) int64 {
	overhead := f.size - f.all
	return f.live + int64(float64(overhead)*float64(f.live)/float64(f.all))
}

// repack copies what lives in packs to new ones, verifies it in doing so, and makes it
// findable. It returns the packs for which that succeeded: one that is damaged stays.
func (p *pruner) repack(ctx context.Context, gone, again []pack.ID) (done []pack.ID, err error) {
	going := make(map[pack.ID]bool, len(gone)+len(again))
	for _, id := range slices.Concat(gone, again) {
		going[id] = true
	}
	for n, id := range again {
		p.progress("packs to write anew", int64(n), int64(len(again)))
		ok, err := p.copyLive(ctx, p.packs[id], going)
		if err != nil {
			return nil, err
		}
		if ok {
			done = append(done, id)
		}
		if p.moved.unsaid >= segmentEntries { // what is in them takes memory
			if err := p.moved.say(ctx); err != nil {
				return nil, err
			}
		}
	}
	err = p.moved.publish(ctx)
	p.report.Rewritten = p.moved.stored
	return done, err
}

// copyLive copies the chunks of a pack that need a home once the packs that are going have
// gone.
func (p *pruner) copyLive(ctx context.Context, f *prunedPack, going map[pack.ID]bool) (bool, error) {
	info := backend.Info{Name: packName(f.kind, f.id), Size: f.size}
	entries, err := p.readDirectory(ctx, info)
	if err == nil {
		entries, err = p.homeless(entries, going)
	}
	var s scanned
	if err == nil {
		s, err = p.scan(ctx, info, entries, func(k *pack.Key, e pack.Entry, encoded, _ []byte) error {
			if p.marks.isMoved(e.ID) {
				return nil
			}
			p.marks.set(e.ID, moved)
			return p.moved.add(ctx, k.Header.Place, e, encoded)
		})
	}
	if err == nil {
		err = s.err
	}
	if errors.Is(err, ErrDamage) {
		p.damagedPack(f, err)
		return false, nil
	}
	if err == nil && len(s.baseless) > 0 {
		return false, p.spoiledBases(f, s.baseless)
	}
	return err == nil, err
}

// spoiledBases notes that the bases of needed deltas in a pack can't be had, so that it
// stays, and which packs were to have them.
func (p *pruner) spoiledBases(f *prunedPack, of []baseless) error {
	f.fixed = true
	for _, b := range of {
		places, err := p.lookup(nil, b.base)
		if err != nil {
			return err
		}
		for _, x := range places {
			if in := p.packs[x.Pack]; in != nil && !in.damaged && x.Entry.Encoding != pack.Delta {
				p.damagedPack(in, fmt.Errorf("chunk %s, that chunk %s is a difference to, can't be had: %w", b.base.Short(), b.ID.Short(), b.err))
			}
		}
	}
	return nil
}

// homeless returns the entries that snapshots need and that have no home that stays. It
// overwrites entries, which may be many.
//
// A delta that is copied stays one: that it is needed makes its bases needed whole, so
// they stay, or are copied too. Where a whole home could serve, that is what is copied.
func (p *pruner) homeless(entries []pack.Entry, going map[pack.ID]bool) (need []pack.Entry, err error) {
	var places []index.Place
	need = entries[:0]
	for _, e := range entries {
		want := p.marks.of(e.ID) & (wanted | wantedWhole)
		if want == 0 {
			continue
		}
		if places, err = p.lookup(places[:0], e.ID); err != nil {
			return nil, err
		}
		serves := func(x index.Place) bool { return p.isStaying(x, want, going) }
		if e.Encoding == pack.Delta && p.does(stepWholeHome) {
			if want&wantedWhole != 0 {
				continue
			}
			serves = func(x index.Place) bool { return p.isWholeAt(x) || p.isStaying(x, want, going) }
		}
		if !slices.ContainsFunc(places, serves) {
			need = append(need, e)
		}
	}
	return need, nil
}

// isStaying reports whether a place is a home that stays, and is enough for a need.
func (p *pruner) isStaying(x index.Place, want need, going map[pack.ID]bool) bool {
	if !p.isSound(x) || going[x.Pack] {
		return false
	}
	if x.Entry.Encoding != pack.Delta {
		return true
	}
	return (want&wantedWhole == 0 || !p.does(stepWholeHome)) && p.basesAre(&x.Entry, sure)
}

// isWholeAt reports whether a place is a home for which no delta need stay. If its pack
// goes, then not before it was copied.
func (p *pruner) isWholeAt(x index.Place) bool { return x.Entry.Encoding != pack.Delta && p.isSound(x) }

// isSound reports whether the admin vouches for a place, in a pack that is not condemned.
func (p *pruner) isSound(x index.Place) bool {
	f := p.packs[x.Pack]
	return f != nil && f.kind == x.PackKind && f.size == x.PackSize && f.vouched && !f.damaged && x.Signer == p.config.Admin &&
		!p.condemned[x.Pack]
}
