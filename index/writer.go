package index

// runWriter appends records to a run: its blocks, its filter, and what the state says of it.
// It is for one transaction.
type runWriter struct {
	tables *tables
	run    *run
	blocks blockWriter
	filter *filterWriter
}

// append returns a writer that goes on where a run ends.
func (t *tables) append(u *run) (*runWriter, error) {
	f, err := t.beginFilter(u)
	return &runWriter{tables: t, run: u, blocks: blockWriter{run: u.number}, filter: f}, err
}

// add appends a record, which is above all that the run has.
func (w *runWriter) add(r *record) error {
	if w.run.records == 0 {
		w.run.from = r.key
	}
	w.run.records++
	if err := w.filter.add(r.key[:32]); err != nil {
		return err
	}
	return w.blocks.add(r, w.tables.blocks.Put)
}

// finish writes what there is. next is what comes next in the run, nil at its end.
func (w *runWriter) finish(next *record) error {
	w.run.to = endKey
	if next != nil {
		w.run.to = next.key
	}
	if w.run.records == 0 {
		return nil
	}
	if err := w.filter.finish(&w.run.to); err != nil {
		return err
	}
	return w.blocks.flush(&w.run.to, w.tables.blocks.Put)
}
