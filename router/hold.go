package router

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// hold says who may touch a connection, and until when. A caller may keep a Tx, rows or a batch's results, and use them on
// another goroutine, after the connection has gone to the next tenant. So whatever touches the connection for them does it
// between use and done, and what gives the connection away ends the hold first.
type hold struct {
	mu   sync.Mutex  // held while the connection is used
	over atomic.Bool // the connection is not theirs any more; set while mu is held
}

// use begins a use, which done ends. It fails where another goroutine is at it, rather than wait: that one may be the caller
// itself, in code of its own that a value or a destination has.
func (h *hold) use() error {
	if !h.mu.TryLock() {
		return fmt.Errorf("%w: two goroutines, or an argument's own code, use one transaction at the same time", ErrRefused)
	}
	if h.over.Load() {
		h.mu.Unlock()
		return ErrTxDone
	}
	return nil
}

func (h *hold) done() { h.mu.Unlock() }
