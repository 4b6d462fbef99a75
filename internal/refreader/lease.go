package refreader

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// Section 11: leases, tombstones, condemned.

// Outcomes of a lease.
const (
	outcomeCommitted = 1
	outcomeAbandoned = 2
	outcomeFenced    = 3
)

// Phases of condemned.
const (
	phaseEmpty     = 0
	phaseAnnounced = 1 // snapshots may still need one of the packs
	phaseWaiting   = 2 // so they may
	phaseFinal     = 3 // none does
)

// committed returns the snapshots that leases commit. It is no matter whether snapshots/ has them too.
func (r *Repo) committed() (map[ID]Snapshot, error) {
	leases, err := r.list("leases")
	if err != nil {
		return nil, err
	}
	found := make(map[ID]Snapshot)
	for _, lease := range leases {
		manifest, err := r.readLease(lease)
		if err != nil {
			return nil, fmt.Errorf("leases/%v: %w", lease, err)
		}
		if manifest == nil {
			continue
		}
		o, err := r.parse(manifest, kindManifest)
		if err != nil {
			return nil, fmt.Errorf("leases/%v: manifest: %w", lease, err)
		}
		s, err := r.openManifest(o)
		if err != nil {
			return nil, fmt.Errorf("leases/%v: manifest: %w", lease, err)
		}
		found[s.ID] = s
	}
	return found, nil
}

// readLease verifies all objects of a lease and returns the manifest that it commits, nil if none.
func (r *Repo) readLease(lease ID) (manifest []byte, err error) {
	folder := "leases/" + lease.String() + "/"
	files, err := os.ReadDir(r.path(folder))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		number, ok := beatNumber(f.Name())
		if !ok {
			continue
		}
		o, err := r.load(folder+f.Name(), kindBeat)
		if err == nil {
			_, err = openParse(r, o, parseBeat(lease, number))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	begin, err := r.load(folder+"begin", kindBegin)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // being cleaned up, so its snapshot is in snapshots/
	}
	if err == nil {
		_, err = openParse(r, begin, parseBegin(lease))
	}
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	end, err := r.load(folder+"end", kindEnd)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // still running, or dead
	}
	if err == nil && end.signer != begin.signer && end.signer != r.config.admin {
		err = errors.New("signed neither by the lease's signer nor by the admin key")
	}
	if err == nil {
		manifest, err = openParse(r, end, parseEnd(lease))
	}
	if err != nil {
		return nil, fmt.Errorf("end: %w", err)
	}
	return manifest, nil
}

// beatNumber reads the n of beat-<n>, in its shortest decimal form.
func beatNumber(name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, "beat-")
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, ok && err == nil && n > 0 && strconv.FormatUint(n, 10) == digits
}

func parseBegin(lease ID) func([]byte) (struct{}, error) {
	return func(plain []byte) (none struct{}, err error) {
		c := newCursor(plain)
		c.require(c.id() == lease, "belongs to another lease")
		c.i64()     // time
		c.text()    // host
		c.uvarint() // process
		return none, c.endPadded()
	}
}

func parseBeat(lease ID, number uint64) func([]byte) (struct{}, error) {
	return func(plain []byte) (none struct{}, err error) {
		c := newCursor(plain)
		c.require(c.id() == lease, "belongs to another lease")
		c.require(c.uvarint() == number, "has another number")
		c.i64() // time
		return none, c.endPadded()
	}
}

// parseEnd returns the manifest of a committed lease.
func parseEnd(lease ID) func([]byte) ([]byte, error) {
	return func(plain []byte) (manifest []byte, err error) {
		c := newCursor(plain)
		c.require(c.id() == lease, "belongs to another lease")
		c.i64() // time
		switch outcome := c.u8(); outcome {
		case outcomeCommitted:
			manifest = bytes.Clone(c.bytes())
			c.require(len(manifest) > 0, "a commit without a manifest")
		case outcomeAbandoned, outcomeFenced:
		default:
			c.fail("unknown outcome %d", outcome)
		}
		return manifest, c.endPadded()
	}
}

// forgotten returns the IDs that tombstones name.
func (r *Repo) forgotten() (map[ID]bool, error) {
	ids, err := r.list("tombstones")
	if err != nil {
		return nil, err
	}
	out := make(map[ID]bool)
	for _, id := range ids {
		name := "tombstones/" + id.String()
		o, err := r.load(name, kindTombstone)
		if err != nil {
			return nil, err
		}
		named, err := parseTombstone(o.body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, snapshot := range named {
			out[snapshot] = true
		}
	}
	return out, nil
}

func parseTombstone(plain []byte) (forgotten []ID, err error) {
	c := newCursor(plain)
	c.i64() // time
	for i := range c.count(c.uvarint(), 32+1) {
		id := c.id()
		c.require(i == 0 || less(forgotten[i-1][:], id[:]), "snapshots are not in order")
		forgotten = append(forgotten, id)
		c.ids(c.uvarint()) // the links that the snapshot had
	}
	return forgotten, c.end()
}

type condemned struct {
	phase uint8
	packs map[packRef]bool
}

func (r *Repo) loadCondemned() error {
	o, err := r.load("condemned", kindCondemned)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no prune has run yet
	}
	if err != nil {
		return err
	}
	if r.condemned, err = parseCondemned(o.body); err != nil {
		return fmt.Errorf("condemned: %w", err)
	}
	return nil
}

func parseCondemned(plain []byte) (x condemned, err error) {
	c := newCursor(plain)
	c.require(c.u64() >= 1, "generation 0")
	x.phase = c.u8()
	c.require(x.phase <= phaseFinal, "unknown phase %d", x.phase)
	x.packs = make(map[packRef]bool)
	var last []byte
	for i := range c.count(c.uvarint(), 1+32) {
		kind, id := c.u8(), c.id()
		order := append([]byte{kind}, id[:]...)
		c.require(i == 0 || less(last, order), "packs are not in order")
		last = order
		c.require(kind == kindData || kind == kindMeta, "pack of kind %q", kind)
		x.packs[packRef{kind, id}] = true
	}
	leases := c.ids(c.uvarint())
	c.require(x.phase != phaseEmpty || len(x.packs)+len(leases) == 0, "phase is empty, the lists are not")
	return x, c.end()
}
