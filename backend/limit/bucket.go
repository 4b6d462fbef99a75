package limit

import (
	"context"
	"sync"
	"time"
)

// burst is for how long an unused rate can be saved up.
const burst = 100 * time.Millisecond

// bucket is a token bucket that lends: a call takes its bytes at once, into debt
// if need be, and then sleeps until the debt is paid. So a call may be larger than
// the bucket, and those who come later wait behind those who came before. A nil
// bucket has no limit.
type bucket struct {
	rate  float64 // bytes a second
	full  float64 // bytes that can be saved up
	now   func() time.Time
	sleep func(ctx context.Context, d time.Duration) error

	mu     sync.Mutex
	tokens float64 // bytes to give; debt, if negative
	last   time.Time
}

// newBucket returns a full bucket, or nil if rate is 0.
func newBucket(rate int64, c Config) *bucket {
	if rate == 0 {
		return nil
	}
	full := float64(rate) * burst.Seconds()
	return &bucket{rate: float64(rate), full: full, now: c.Now, sleep: c.Sleep, tokens: full, last: c.Now()}
}

// take waits until n bytes may pass. If the context ends first it returns the
// context's error, and gives the bytes back for others.
func (b *bucket) take(ctx context.Context, n int) error {
	if b == nil || n == 0 {
		return nil
	}
	wait := b.reserve(float64(n))
	if wait == 0 {
		return nil
	}
	err := b.sleep(ctx, wait)
	if err != nil {
		b.reserve(-float64(n))
	}
	return err
}

// reserve takes n tokens and returns how long to wait for them.
func (b *bucket) reserve(n float64) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	// A clock that was set back gives nothing, and takes nothing away.
	b.tokens = min(b.full, b.tokens+max(0, now.Sub(b.last).Seconds())*b.rate)
	b.last = now
	b.tokens -= n
	if b.tokens >= 0 {
		return 0
	}
	// At most some years, which no Duration overflows.
	return time.Duration(min(-b.tokens/b.rate, 1e8) * float64(time.Second))
}
