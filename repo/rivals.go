package repo

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// Rivals are the keys that sign snapshots of one host side by side. A key gives
// its snapshots whatever host it likes, so one of them may be stolen.
type Rivals struct {
	Host    string
	Signers []seal.Signer // sorted; two or more
}

// Rivalry says which keys the rivals are, for people.
func (r *Repository) Rivalry(x *Rivals) (string, error) {
	slots, err := r.Slots()
	if err != nil {
		return "", err
	}
	var keys []string
	for _, signer := range x.Signers {
		n := slices.IndexFunc(slots, func(s SlotInfo) bool { return s.Signer == signer })
		switch {
		case signer == r.config.Admin:
			keys = append(keys, "a key with full access")
		case n < 0:
			keys = append(keys, "a removed key, "+signer.Short())
		default:
			keys = append(keys, fmt.Sprintf("key %s %q", slots[n].ID.Short(), slots[n].Label))
		}
	}
	return fmt.Sprintf("host %q has snapshots by %d keys: %s; a stolen key can claim any host: if these are not all yours, give the ID of a snapshot you know, and remove the key",
		x.Host, len(keys), strings.Join(keys, "; ")), nil
}

// Rivals returns the hosts that several keys claim, sorted by their names. Keys
// of which one took over from the other are no rivals: all that the one signed is of
// earlier epochs, and older, than all that the other did.
func (s *SnapshotSet) Rivals() []*Rivals {
	claims := make(map[string]map[seal.Signer]*claim)
	for _, info := range s.byID {
		if info.Open.Flags&snapshot.Restored != 0 {
			continue // by the admin, of what another may have made
		}
		host := claims[info.Open.Host]
		if host == nil {
			host = make(map[seal.Signer]*claim)
			claims[info.Open.Host] = host
		}
		if host[info.Signer] == nil {
			host[info.Signer] = newClaim(info)
		}
		host[info.Signer].add(info)
	}
	var found []*Rivals
	for host, bySigner := range claims {
		r := &Rivals{Host: host}
		for signer, c := range bySigner {
			for other, o := range bySigner {
				if signer != other && !c.precedes(o) && !o.precedes(c) {
					r.Signers = append(r.Signers, signer)
					break
				}
			}
		}
		if r.Signers != nil {
			slices.SortFunc(r.Signers, func(a, b seal.Signer) int { return bytes.Compare(a[:], b[:]) })
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b *Rivals) int { return cmp.Compare(a.Host, b.Host) })
	return found
}

// claim is the extent of what a key signed for a host.
type claim struct {
	domain         uint32
	mixed          bool // of several domains
	first, last    uint32
	oldest, newest time.Time
}

func newClaim(s *Snapshot) *claim {
	return &claim{domain: s.Place.Domain, first: s.Place.Epoch, last: s.Place.Epoch, oldest: s.Open.Time, newest: s.Open.Time}
}

func (c *claim) add(s *Snapshot) {
	c.mixed = c.mixed || c.domain != s.Place.Domain
	c.first, c.last = min(c.first, s.Place.Epoch), max(c.last, s.Place.Epoch)
	if s.Open.Time.Before(c.oldest) {
		c.oldest = s.Open.Time
	}
	if s.Open.Time.After(c.newest) {
		c.newest = s.Open.Time
	}
}

func (c *claim) precedes(o *claim) bool {
	return !c.mixed && !o.mixed && c.domain == o.domain && c.last < o.first && c.newest.Before(o.oldest)
}
