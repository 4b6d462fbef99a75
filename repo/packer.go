package repo

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// openPack is a pack being filled.
type openPack struct {
	staged backend.Staged
	writer *pack.Writer
}

// packer fills packs of one kind. Several goroutines append at once, each to a
// pack of its own, so that sealing and hashing need no lock; idle packs are
// taken last in, first out, so that a small run fills one. That chunks of one stream
// spread over several packs also blurs their order to an observer.
type packer struct {
	w    *Writer
	kind seal.Kind

	mu   sync.Mutex
	idle []*openPack
}

func (p *packer) take() (*openPack, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		o := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return o, nil
	}
	p.mu.Unlock()

	r := p.w.repo
	staged, err := stage(p.w.ctx, r.storage)
	if err != nil {
		return nil, fmt.Errorf("begin a pack: %w", err)
	}
	h := seal.Header{Kind: p.kind, Repository: r.id, Place: p.w.place}
	w, err := pack.NewWriter(staged, h, r.config.Public, p.w.keys, r.opts.Random)
	if err != nil {
		return nil, errors.Join(err, staged.Abort())
	}
	return &openPack{staged: staged, writer: w}, nil
}

// append seals a chunk into some pack, and hands the pack on when it is full.
func (p *packer) append(e pack.Entry, encoded []byte) (pack.Entry, error) {
	o, err := p.take()
	if err != nil {
		return e, err
	}
	if e, err = o.writer.Append(e, encoded); err != nil {
		return e, errors.Join(err, o.staged.Abort())
	}
	if o.writer.Size() >= int(p.w.repo.config.PackSize) || o.writer.Full() {
		return e, p.w.store(o)
	}
	p.mu.Lock()
	p.idle = append(p.idle, o)
	p.mu.Unlock()
	return e, nil
}

// flush hands on the packs that are not full.
func (p *packer) flush() error {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	var errs []error
	for _, o := range idle {
		errs = append(errs, p.w.store(o))
	}
	return errors.Join(errs...)
}

// abort drops the packs that are not full.
func (p *packer) abort() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.idle {
		o.staged.Abort()
	}
	p.idle = nil
}
