//go:build landlord_faults

package move

import (
	"context"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/move/cutover"
	"github.com/landlord-go/landlord/move/follow"
)

// without leaves out what LANDLORD_WITHOUT names: "skip", the skipping of changes that the copy has brought; "sequences", their
// advancing; "drain", the draining of writers before the position is taken. Tests show with it that they see what it does.
func without(cfg any) {
	switch left := os.Getenv("LANDLORD_WITHOUT"); cfg := cfg.(type) {
	case *follow.Config:
		if left == "skip" {
			cfg.Copied = nil
		}
	case *cutover.Config:
		switch left {
		case "sequences":
			cfg.Sequences = nil
		case "drain":
			cfg.Follower = &early{Follower: cfg.Follower, release: func() {}}
		}
	}
}

// early takes the ping in front of the lock for the position: it holds the stream there until it is asked for something else than
// the fence's message, and for longer than an attempt may take.
type early struct {
	cutover.Follower
	mu      sync.Mutex
	at      repl.LSN
	release func()
}

func (e *early) At(token string, fn func(context.Context, repl.LSN) error) (cancel func() bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if strings.HasPrefix(token, "fence ") {
		_ = fn(context.Background(), e.at) // says only that it is there
		return func() bool { return false }
	}
	e.release()
	e.release = func() {}
	if !strings.HasPrefix(token, "ping ") {
		return e.Follower.At(token, fn)
	}
	held := make(chan struct{})
	e.release = sync.OnceFunc(func() { close(held) })
	return e.Follower.At(token, func(ctx context.Context, at repl.LSN) error {
		e.mu.Lock()
		e.at = at
		e.mu.Unlock()
		if err := fn(ctx, at); err != nil {
			return err
		}
		select {
		case <-held:
		case <-time.After(5 * time.Second): // the attempt has failed, or is over
		case <-ctx.Done():
		}
		return nil
	})
}
