package repo

import (
	"context"
	"errors"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/repo/config"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// What tests need to play a prune, an attacker or a program that died half way.

var (
	PackName       = packName
	ParsePackName  = parsePackName
	LeaseName      = leaseName
	SplitLeaseName = splitLeaseName
)

// Omit leaves out a step of the protocol from now on.
func (r *Repository) Omit(s step) { r.omit = s }

// The steps that Omit takes.
const (
	StepLease      = stepLease
	StepSee        = stepSee
	StepList       = stepList
	StepOrder      = stepOrder
	StepFenceCheck = stepFenceCheck
	StepRenewCheck = stepRenewCheck
	StepWholeBase  = stepWholeBase
	StepUseBases   = stepUseBases

	StepListLeases  = stepListLeases
	StepLeasesAfter = stepLeasesAfter
	StepRemark      = stepRemark
	StepLeasesFirst = stepLeasesFirst
	StepNeededFull  = stepNeededFull
	StepSureBase    = stepSureBase
	StepWholeHome   = stepWholeHome
	StepVouched     = stepVouched
	StepFinalSwap   = stepFinalSwap

	StepEachBase = stepEachBase
	StepKeepEnds = stepKeepEnds
)

func (r *Repository) Sealer() (protocol.Sealer, error) { return r.sealer() }

func (r *Repository) Ring() *seal.Keyring { return r.ring }

// Condemn replaces the condemned list with one that r's key signs.
func (r *Repository) Condemn(ctx context.Context, packs ...protocol.CondemnedPack) error {
	list := protocol.Condemned{Generation: 1, Phase: protocol.Waiting, Packs: packs}
	old, err := backend.ReadAll(ctx, r.storage, condemnedName, maxCondemned)
	if errors.Is(err, backend.ErrNotExist) {
		old, err = nil, nil
	}
	if err != nil {
		return err
	}
	return r.storage.(backend.Swapper).Swap(ctx, condemnedName, old, list.Sign(r.id, r.signing))
}

// Bury writes a tombstone that r's key signs.
func (r *Repository) Bury(ctx context.Context, forgotten ...protocol.Forgotten) error {
	t := protocol.Tombstone{Time: r.opts.Now(), Forgotten: forgotten}
	object := t.Sign(r.id, r.signing)
	return backend.PutBytes(ctx, r.storage, tombstonesPrefix+seal.Sum[any](object).String(), object)
}

// LeaseID returns the lease under which the writer writes now.
func (w *Writer) LeaseID() protocol.LeaseID { return w.lease.id }

// Beat writes the next beat of the writer's lease.
func (w *Writer) Beat(ctx context.Context) error { return w.lease.beat(ctx) }

// Flush makes what was put so far durable and findable, as Commit does first.
func (w *Writer) Flush(ctx context.Context) error { return w.flush(ctx) }

// AddSlotIn is AddSlot in a domain of its own, which it begins.
func (r *Repository) AddSlotIn(ctx context.Context, n NewSlot, domain uint32) error {
	err := r.change(ctx, func(c *config.Config, ring *seal.Keyring, notes []config.Note) ([]config.Note, error) {
		_, err := c.NewEpoch(r.opts.Random, ring, domain)
		if err != nil {
			return nil, err
		}
		return notes, c.Grant(ring, r.slot)
	})
	if err != nil {
		return err
	}
	was := r.slot.Domain
	defer func() { r.slot.Domain = was }()
	r.slot.Domain = domain
	_, err = r.AddSlot(ctx, n)
	return err
}

// SaveVerifiedEvery says after how many bytes of packs the memory of them is saved.
func (r *Repository) SaveVerifiedEvery(n int64) { r.saveEvery = n }

// CondemnAtOnce says how many packs a prune or repair condemns at most.
func (r *Repository) CondemnAtOnce(n int) { r.atOnce = n }

// Use makes the repository use another view of its storage.
func (r *Repository) Use(b backend.Interface) { r.storage = b }

// SwapCondemned replaces the condemned list.
func (r *Repository) SwapCondemned(ctx context.Context, list protocol.Condemned) error {
	_, old, err := r.loadCondemned(ctx)
	if err == nil {
		_, err = r.swapCondemned(ctx, old, &list)
	}
	return err
}

// OpenManifest opens a manifest, also its closed part.
func (r *Repository) OpenManifest(ctx context.Context, object []byte) (*Snapshot, error) {
	s, err := r.openManifest(snapshot.IDOf(object), object)
	if err != nil {
		return nil, err
	}
	return s, r.LoadBody(ctx, s)
}

// ClaimedHomes returns how many homes prune finds for one chunk that so many packs have, each
// twice.
func (r *Repository) ClaimedHomes(packs int) (n int, err error) {
	p := &pruner{Repository: r}
	for range packs {
		in := new(prunedPack)
		p.orphans = append(p.orphans, orphan{in: in}, orphan{in: in})
	}
	err = p.eachChunk(func(_ chunk.ID, homes []home) error {
		n += len(homes)
		return nil
	})
	return n, err
}

// Places returns where a chunk is said to be.
func (r *Repository) Places(id chunk.ID) ([]index.Place, error) { return r.places(nil, id) }

// LoadIndex absorbs the segments that are stored.
func (r *Repository) LoadIndex(ctx context.Context) error { return r.loadIndex(ctx, nil) }
