package follow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/repl"
)

// errOutrun reports progress that stands elsewhere than where it was left: a connection that was given up has committed after
// all. What stands there is right, so it is read again.
var errOutrun = errors.New("the progress was moved by an earlier connection")

// markError is an error of a function given to At.
type markError struct{ err error }

func (e *markError) Error() string { return e.err.Error() }
func (e *markError) Unwrap() error { return e.err }

// passing tells whether it is worth to connect again after err.
func passing(err error) bool {
	var conflict *ConflictError
	var failed *markError
	switch {
	case errors.As(err, &conflict), errors.As(err, &failed),
		errors.Is(err, ErrFencedOff), errors.Is(err, ErrTruncate), errors.Is(err, ErrSchemaChanged), errors.Is(err, ErrSlotLost),
		errors.Is(err, repl.ErrMessage):
		return false
	case pgerr.Code(err) == "": // the network, or what it has interrupted
		return true
	}
	return pgerr.Is(err, "08", "53", pgerr.QueryCanceled, pgerr.AdminShutdown, pgerr.CrashShutdown, pgerr.CannotConnectNow,
		pgerr.IdleSessionTimeout, pgerr.IdleInTransactionTimeout, pgerr.SerializationFailure, pgerr.DeadlockDetected,
		pgerr.LockNotAvailable, pgerr.ObjectInUse)
}

// session follows until something breaks.
func (f *Follower) session(ctx context.Context) error {
	a := &applier{f: f, life: ctx, source: lazy{open: f.cfg.Source}, prepared: map[string]string{}}
	defer a.close(ctx)
	if err := a.open(ctx); err != nil {
		return err
	}
	r := &reader{f: f, queue: newQueue(f.cfg.Batch), from: a.lsn, relations: map[uint32]*relation{}, source: lazy{open: f.cfg.Source}}
	defer r.close(ctx)
	if err := r.open(ctx); err != nil {
		return err
	}
	group, within := errgroup.WithContext(ctx)
	group.Go(func() error { return r.run(within) })
	group.Go(func() error { return a.run(within, r.queue) })
	group.Go(func() error { return f.acknowledge(within, r.stream) })
	err := group.Wait()
	if a.failed != nil {
		return a.failed
	}
	return err
}

// acknowledge tells the server twice a second how far it may forget: often enough for its patience.
func (f *Follower) acknowledge(ctx context.Context, stream *repl.Conn) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			if err := stream.Acknowledge(ctx, f.forgettable()); err != nil {
				return err
			}
		}
	}
}

// forgettable is what the source need not keep: what is applied, or all that it has read when nothing waits to be applied.
func (f *Follower) forgettable() repl.LSN {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &f.now
	at := s.Applied
	if !s.within && s.Applied >= s.handed {
		at = max(at, s.Received)
	}
	s.Acknowledged = max(s.Acknowledged, at)
	return at
}

// forms are the ways in which money and xml are written down, on both sides and as in the stream.
const forms = `set lc_monetary = 'C'; set xmloption = content`

// lazy is a session at the source that is opened when it is needed first.
type lazy struct {
	open func(context.Context) (*pgx.Conn, error)
	conn *pgx.Conn
}

func (l *lazy) get(ctx context.Context) (*pgx.Conn, error) {
	if l.conn == nil {
		conn, err := l.open(ctx)
		if err != nil {
			return nil, fmt.Errorf("open a session at the source: %w", err)
		}
		if _, err := conn.Exec(ctx, forms); err != nil {
			end(ctx, conn)
			return nil, fmt.Errorf("prepare the source's session: %w", err)
		}
		l.conn = conn
	}
	return l.conn, nil
}

func (l *lazy) close(ctx context.Context) {
	if l.conn != nil {
		end(ctx, l.conn)
	}
}

// end closes a connection, whatever has become of ctx. That it cannot be closed in good order changes nothing.
func end(ctx context.Context, conn interface{ Close(context.Context) error }) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
