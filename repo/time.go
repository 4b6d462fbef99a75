package repo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/retention"
	"github.com/cairn-backup/cairn/snapshot"
)

// A snapshot's time decides which others a policy lets go. So one that does not fit
// the storage's clock and the chain of manifests is implausible to retention, and writers
// make none such.

// ErrClock: a snapshot would be from the future.
var ErrClock = errors.New("the snapshot's time is over an hour later than the storage's")

// askTime learns the storage's time from what the lease has just created.
func (w *Writer) askTime(ctx context.Context) error { return w.askTimeOf(ctx, "begin") }

func (w *Writer) askTimeOf(ctx context.Context, object string) error {
	info, err := w.repo.storage.Stat(ctx, leaseName(w.lease.id, object))
	if errors.Is(err, backend.ErrNotExist) {
		return nil // fenced and cleaned up already: commit will meet that
	}
	if err != nil {
		return fmt.Errorf("ask the storage for its time: %w", err)
	}
	w.asked = info.Modified
	return nil
}

// askAgain learns the storage's time from a new beat.
func (w *Writer) askAgain(ctx context.Context) error {
	if err := w.lease.beat(ctx); err != nil {
		return fmt.Errorf("write a beat: %w", err)
	}
	w.lease.mu.Lock()
	n := w.lease.beats
	w.lease.mu.Unlock()
	return w.askTimeOf(ctx, "beat-"+strconv.Itoa(n))
}

// CheckTime returns ErrClock if Commit would refuse a snapshot of that time, if it came
// now.
func (w *Writer) CheckTime(t time.Time) error {
	if w.asked.IsZero() || t.Sub(w.asked) <= retention.MaxAhead {
		return nil
	}
	return fmt.Errorf("%w: it is %s, and the storage says %s", ErrClock, t.Format(time.RFC3339), w.asked.In(t.Location()).Format(time.RFC3339))
}

// raiseQuietly is by how much a clock may be behind without a warning.
const raiseQuietly = 5 * time.Minute

// fitTime makes the time of a snapshot one that retention believes: not before those of
// the heads that it links to. It comes behind them, so that it is the later one. What a
// hostile head can do with that is bounded by the hour that it may itself be ahead.
func (w *Writer) fitTime(ctx context.Context, n *NewSnapshot) error {
	err := w.CheckTime(n.Time)
	if err != nil { // a time of now, perhaps, after a long run
		if err := w.askAgain(ctx); err != nil {
			return err
		}
		err = w.CheckTime(n.Time)
	}
	if err != nil || n.Flags&(snapshot.TimeGiven|snapshot.Imported) != 0 {
		return err
	}
	at := n.Time
	for _, id := range w.snapshots.heads() {
		h, _ := w.snapshots.Get(id)
		isGiven := h.Open.Flags&(snapshot.TimeGiven|snapshot.Imported) != 0
		if !isGiven && h.Open.Time.Sub(h.Stored) <= retention.MaxAhead && !h.Open.Time.Before(at) {
			at = h.Open.Time.Add(1)
		}
	}
	if at.Sub(n.Time) > raiseQuietly {
		w.repo.opts.Observer.warn(fmt.Errorf("the snapshot gets the time %s, as the one before it is so late: this machine's clock is %s behind, or was ahead before",
			at.Format(time.RFC3339), at.Sub(n.Time).Round(time.Second)))
	}
	n.Time = at
	return nil
}
