package repo_test

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
)

// newer makes an object be of a newer version, as somebody with the admin's key wrote it.
func (w *world) newer(object []byte) []byte {
	w.Helper()
	object = bytes.Clone(object[:len(object)-seal.SignatureSize])
	object[versionAt]++
	return seal.AppendSignature(object, w.sealer(w.stranger(admin)).Key)
}

// versionAt is where the version of an object stands.
const versionAt = 7

// contents returns all that is stored below a prefix.
func (w *world) contents(prefix string) map[string]string {
	all := make(map[string]string)
	for _, name := range w.names(prefix) {
		all[name] = string(w.object(name))
	}
	return all
}

// A condemned list of a newer version stays, and repair goes no further. One whose version
// was damaged is replaced.
func TestRepairNewerCondemned(t *testing.T) {
	w := newRepository(t)
	w.must(w.stranger(admin).Condemn(t.Context(), protocol.CondemnedPack{Kind: seal.DataPack, ID: [32]byte{1}}))
	list := w.object("condemned")
	w.replace("condemned", w.newer(list))
	before := w.contents("")
	_, err := w.stranger(admin).Repair(t.Context(), repo.RepairOptions{Read: all.Read, ForgetLost: true})
	w.wants(err, seal.ErrNewer)
	w.saying(err, "the condemned list is of a newer format; use a newer cairn")
	if !maps.Equal(w.contents(""), before) {
		t.Error("it changed something")
	}
	w.replace("condemned", flipped(list, versionAt))
	w.isFixed(w.repair(w.stranger(admin)), "condemned", "replaced")
	w.isSound()
}

// So do the objects of leases.
func TestRepairNewerLease(t *testing.T) {
	for _, kind := range []string{"begin", "beat-1", "end"} {
		w := newRepository(t)
		wr := w.begin(w.stranger(admin))
		w.must(wr.Beat(t.Context()))
		if kind == "end" {
			w.halfCommitted("x", w.someFiles())
		}
		var name string
		for _, n := range w.names("leases/") {
			if strings.HasSuffix(n, "/"+kind) {
				name = n
			}
		}
		was := w.object(name)
		w.replace(name, w.newer(was))
		lease, _, _ := repo.SplitLeaseName(name)
		before := w.contents("leases/" + lease + "/")
		report, err := w.stranger(admin).Repair(t.Context(), repo.RepairOptions{ForgetLost: true})
		w.must(err)
		if !maps.Equal(w.contents("leases/"+lease+"/"), before) {
			t.Errorf("it changed a lease with a newer %s: %v", kind, report.Fixes)
		}
		w.replace(name, flipped(was, versionAt))
		report, err = w.stranger(admin).Repair(t.Context(), repo.RepairOptions{ForgetLost: true})
		w.must(err)
		what := "removed"
		if kind == "end" {
			what = "given up"
		}
		w.isFixed(report, name, what)
	}
}
