package chunk

import (
	"context"
	"io"

	"golang.org/x/time/rate"
)

// A copy that is held to a rate works in short bursts: those who share the source's processors wait for a burst to end, however long
// the pause behind it. So bytes are paid for by the step, and a chunk is what comes over in an eighth of a second.
const (
	leastStep, mostStep = 8 << 10, 64 << 10 // bytes; of a rate for which that is less than a millisecond, as much as that takes
	stepsInSecond       = 100
	chunksInSecond      = 8
	leastPaced          = 128 << 10 // bytes of a chunk: each has an entry in the ledger, which followers hold in memory
)

// pace is the rate of all workers together. nil: there is none.
type pace struct {
	limit *rate.Limiter
	step  int // bytes
}

// newPace returns the pace of so many bytes a second.
func newPace(perSecond int64) *pace {
	if perSecond == 0 {
		return nil
	}
	step := int(max(min(max(perSecond/stepsInSecond, leastStep), mostStep), perSecond/1000))
	return &pace{limit: rate.NewLimiter(rate.Limit(perSecond), step), step: step}
}

// pacedSize is how large a chunk is that would be of size bytes without a rate.
func pacedSize(size, perSecond int64) int64 {
	if perSecond == 0 {
		return size
	}
	return min(size, max(perSecond/chunksInSecond, leastPaced))
}

// pay waits until n more bytes may have been brought over, or ctx ends.
func (p *pace) pay(ctx context.Context, n int64) error {
	for p != nil && n > 0 {
		part := min(n, int64(p.step))
		if err := p.limit.WaitN(ctx, int(part)); err != nil {
			return err
		}
		n -= part
	}
	return nil
}

// pacedWriter holds what is written to w to a pace, if there is one. When ctx ends, it writes no more.
type pacedWriter struct {
	pace *pace
	ctx  context.Context //nolint:containedctx // of the copy that it is part of
	w    io.Writer
	owed int64 // bytes that are not paid for
}

func (w *pacedWriter) Write(b []byte) (int, error) {
	w.owed += int64(len(b))
	if w.pace != nil && w.owed >= int64(w.pace.step) {
		if err := w.settle(); err != nil {
			return 0, err
		}
	}
	return w.w.Write(b)
}

// settle pays for what is left.
func (w *pacedWriter) settle() error {
	if err := w.pace.pay(w.ctx, w.owed); err != nil {
		return errAbandoned
	}
	w.owed = 0
	return nil
}
