package ingest

import (
	"context"
	"sync"
)

// budget bounds how much of something is in use at once.
type budget struct {
	limit int

	mu    sync.Mutex
	used  int
	freed *sync.Cond
}

func newBudget(limit int) *budget {
	b := &budget{limit: limit}
	b.freed = sync.NewCond(&b.mu)
	return b
}

// take waits until there is room for n. What is more than the limit by itself
// is taken when nothing else is in use.
func (b *budget) take(ctx context.Context, n int) error {
	stop := context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.freed.Broadcast()
	})
	defer stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.used > 0 && b.used+n > b.limit {
		if err := ctx.Err(); err != nil {
			return err
		}
		b.freed.Wait()
	}
	b.used += n
	return nil
}

// give gives back n of what was taken.
func (b *budget) give(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	b.freed.Broadcast()
}
