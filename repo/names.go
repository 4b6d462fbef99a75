package repo

import (
	"fmt"
	"path"
	"strings"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
)

// Names of objects, docs/format.md section 2.
const (
	configName    = "config"
	condemnedName = "condemned"

	slotsPrefix      = "keys/"
	dataPrefix       = "data/"
	metaPrefix       = "meta/"
	indexPrefix      = "index/"
	snapshotsPrefix  = "snapshots/"
	tombstonesPrefix = "tombstones/"
	leasesPrefix     = "leases/"
)

// packName returns the name of a pack's object.
func packName(kind seal.Kind, id pack.ID) string {
	s := id.String()
	prefix := dataPrefix
	if kind == seal.MetaPack {
		prefix = metaPrefix
	}
	return prefix + s[:2] + "/" + s
}

// leaseName returns the name of an object of a lease: begin, beat-N or end.
func leaseName(lease protocol.LeaseID, object string) string {
	return leasesPrefix + lease.String() + "/" + object
}

// splitLeaseName undoes leaseName.
func splitLeaseName(name string) (lease, object string, ok bool) {
	rest, ok := strings.CutPrefix(name, leasesPrefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, "/")
}

// parsePackName returns the ID in a pack's name.
func parsePackName(name, prefix string) (pack.ID, error) {
	id, err := pack.ParseID(path.Base(name))
	if err != nil {
		return id, fmt.Errorf("object %s: %w", name, err)
	}
	if s := id.String(); name != prefix+s[:2]+"/"+s {
		return id, fmt.Errorf("object %s stands in the wrong folder", name)
	}
	return id, nil
}

// packIDOf returns the ID of a pack that listPacks yielded.
func packIDOf(info backend.Info) pack.ID {
	id, _ := pack.ParseID(path.Base(info.Name))
	return id
}

// packKindOf returns the kind of pack that a name promises.
func packKindOf(name string) seal.Kind {
	if strings.HasPrefix(name, metaPrefix) {
		return seal.MetaPack
	}
	return seal.DataPack
}
