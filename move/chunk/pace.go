package chunk

import (
	"context"
	"io"

	"golang.org/x/time/rate"
)

// Those who share a processor or a disk with a copy wait for a burst of it to end, however long the pause behind it. So a copy that is
// held to a rate goes by steps that take a millisecond or less, and pays for each, and one worker takes them in turn.
const (
	stepsInSecond   = 400
	leastStep       = 8 << 10 // bytes; of a rate for which that is more than a second's worth, that
	mostInStep      = 1000    // rows
	chunksInSecond  = 2
	leastPacedChunk = 128 << 10 // bytes: each chunk has an entry in the ledger, which followers hold in memory
	pacedWorker     = 16 << 20  // bytes in a second that one worker brings over
)

// pace is the rate of all workers together. nil: there is none.
type pace struct {
	limit *rate.Limiter
	step  int64 // bytes
}

// hold holds the copy to so many bytes a second.
func (c *copier) hold(perSecond int64) {
	step := min(max(perSecond/stepsInSecond, leastStep), perSecond)
	c.pace = &pace{limit: rate.NewLimiter(rate.Limit(perSecond), int(step)), step: step}
	c.Size = min(c.Size, max(perSecond/chunksInSecond, leastPacedChunk))
	c.Workers = min(c.Workers, 1+int(perSecond/pacedWorker))
}

// pay waits until n more bytes may be brought over, or ctx ends.
func (p *pace) pay(ctx context.Context, n int64) error {
	for n > 0 {
		part := min(n, p.step)
		if err := p.limit.WaitN(ctx, int(part)); err != nil {
			return err
		}
		n -= part
	}
	return nil
}

// pacedReader pays for what is read.
type pacedReader struct {
	pace *pace
	ctx  context.Context //nolint:containedctx // of the COPY that reads
	data []byte
}

func (r *pacedReader) Read(b []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(int64(len(b)), r.pace.step)], r.data)
	if err := r.pace.pay(r.ctx, int64(n)); err != nil {
		return 0, err
	}
	r.data = r.data[n:]
	return n, nil
}
