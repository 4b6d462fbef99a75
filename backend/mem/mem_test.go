package mem_test

import (
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/backendtest"
	"github.com/cairn-backup/cairn/backend/mem"
)

func TestConformance(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backend.Interface { return mem.New(time.Now) })
}

func TestCloneIsIndependent(t *testing.T) {
	ctx := t.Context()
	at := time.Unix(1700000000, 0)
	a := mem.New(func() time.Time { return at })
	if err := backend.PutBytes(ctx, a, "both", []byte("1")); err != nil {
		t.Fatal(err)
	}
	b := a.Clone()
	at = at.Add(time.Hour)
	if err := backend.PutBytes(ctx, b, "only-b", []byte("2")); err != nil {
		t.Fatal(err)
	}
	if err := a.Delete(ctx, "both"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Stat(ctx, "only-b"); err == nil {
		t.Error("the original sees an object of the clone")
	}
	info, err := b.Stat(ctx, "both")
	if err != nil {
		t.Fatal("the clone lost what the original deleted:", err)
	}
	if !info.Modified.Equal(at.Add(-time.Hour)) {
		t.Errorf("Modified = %v, want the time of the Put", info.Modified)
	}
	if info, _ := b.Stat(ctx, "only-b"); !info.Modified.Equal(at) {
		t.Errorf("Modified = %v, want the clock's %v", info.Modified, at)
	}
}
