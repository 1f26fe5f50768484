package follow

import (
	"context"

	"github.com/landlord-go/landlord/internal/repl"
)

// mark waits for a message in the stream.
type mark struct {
	fn func(context.Context, repl.LSN) error
}

// At has fn called once when the message with the content token is met in the stream, whose prefix is
// [isolation.MessagePrefix]. Everything that was committed before it is committed at the target then; nothing after it is
// applied until fn returns. fn gets the message's position; an error of it ends Run.
//
// It must be called before the message is emitted, and not twice with one token. The result takes it back, and tells whether
// it was in time: fn is not called any more then. Later, fn has been called, or is being called.
func (f *Follower) At(token string, fn func(ctx context.Context, at repl.LSN) error) (cancel func() bool) {
	m := &mark{fn: fn}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.marks[token] = m
	return func() bool { return f.take(token) == m }
}

// take removes and returns the mark of a token; nil: there is none.
func (f *Follower) take(token string) *mark {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.marks[token]
	delete(f.marks, token)
	return m
}
