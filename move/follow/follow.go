// Package follow keeps the tables of one home in step with those of another, by the source's change stream.
//
// It guarantees that every transaction of the source is applied at the target exactly once and whole, in the order of the
// commits, whatever dies in between: how far it is stands at the target, and moves in the transaction of the changes. It
// writes nothing but while the target's fence row says that the caller is the one to write there, so that a process which was
// stopped, replaced and woken does no harm. What the copy has brought already is told by [Copied] and left out.
//
// The slot, its publication, the copy and the fence rows are made by the caller. What a change cannot be applied for (a table
// that was truncated, or is not any more what it was) ends it with a typed error, and what is gone in between comes back by
// itself: the network, a server that restarts, the reader of an earlier connection.
package follow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move/table"
)

// What ends Run for good.
var (
	// ErrFencedOff reports a target that is not the caller's to write to any more. Nothing was written since.
	ErrFencedOff = errors.New("the target is written by somebody else")
	// ErrTruncate reports that a table of the source was truncated, which the stream tells without saying whose rows it was.
	ErrTruncate = errors.New("a table of the source was truncated: the copy must start again")
	// ErrSchemaChanged reports a table that is not any more what it was when the move began.
	ErrSchemaChanged = errors.New("a table of the source has changed: finish or abort the move before migrating")
	// ErrSlotLost is [repl.ErrSlotLost].
	ErrSlotLost = repl.ErrSlotLost
)

// ConflictError reports a row that the target does not take because another one is in its way, which the source never had.
type ConflictError struct {
	Table string
	err   error
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("apply a change to table %s: the target has a row that the source has not, and which is in the way: remove it, or abort the move: %v", e.Table, e.err)
}

func (e *ConflictError) Unwrap() error { return e.err }

// Direction is the way of a stream, and what its progress is kept under.
type Direction string

// The directions.
const (
	Forward Direction = "forward"
	Reverse Direction = "reverse"
)

// Copied tells which changes the copy has brought already. One goroutine at a time calls it.
type Copied interface {
	// Until is the transaction id, with its epoch, from which on no change is in the copy.
	Until() uint64
	// Ahead tells whether rows of the table were copied after the committed transaction xid: they may be as a later one has left
	// them.
	Ahead(p table.Pair, xid uint64) bool
	// Seen tells of each key whether the copy has brought what the committed transaction that stands beside it in xids has done
	// to that row. Keys are values of the pair's SourceKey, as text.
	Seen(ctx context.Context, p table.Pair, keys [][]string, xids []uint64) ([]bool, error)
	// Close ends the session that Seen may have opened. The next Seen opens another one.
	Close(ctx context.Context)
}

// Fence is the target's row that must stand for anything to be written.
type Fence struct {
	isolation.FenceKey
	State isolation.FenceState // importing, or moved where the source of a move that may be rolled back is kept in step
	Owner string               // uuid of the caller
}

// Config of a Follower. All but Copied, Logger, Patience and Batch are required.
type Config struct {
	Move      string // uuid, under which the progress is kept
	Direction Direction
	Pairs     []table.Pair

	// Stream opens a replication connection to the source's database, Source a session there, for rows whose long values the
	// stream does not tell, and Target one at the target. The sessions' settings decide how values are written, as in the
	// stream; they have row_security off, BYPASSRLS and no time-outs, and Target's may set session_replication_role. All are closed by the Follower.
	Stream            func(context.Context) (*repl.Conn, error)
	Source, Target    func(context.Context) (*pgx.Conn, error)
	Slot, Publication string

	From   repl.LSN // where to begin if nothing was applied yet
	Fence  Fence
	Copied Copied // nil: nothing was copied

	Logger *slog.Logger // nil: none
	// Patience is how long the servers may be out of reach, without anything applied in between, before Run gives up. Default:
	// 2 minutes.
	Patience time.Duration
	// Batch is about how many changes are applied together. Default: 5000.
	Batch int
}

// Follower applies one change stream. It is safe for concurrent use, but runs once.
type Follower struct {
	cfg Config
	log *slog.Logger

	targets []*target

	mu    sync.Mutex // guards what follows; nothing waits while holding it
	now   standing
	marks map[string]*mark
}

// standing is Stats, and what else is to be known of the stream.
type standing struct {
	Stats
	oldest time.Time // commit time of what waits to be applied; zero: nothing does
	handed repl.LSN  // to the applier
	within bool      // a transaction is being read
}

// Stats is how far a Follower is.
type Stats struct {
	Applied      repl.LSN      // everything before is committed at the target
	Received     repl.LSN      // how far the source's log was read, as far as is known
	Acknowledged repl.LSN      // what is before, the source may forget
	Lag          time.Duration // age of the oldest commit that has arrived and is not applied; 0: none
	Changes      int64         // rows changed by the source, applied or left out
	Transactions int64
	Reconnects   int
}

// New returns a Follower. It connects to nothing. All that is wrong with cfg is reported at once.
func New(cfg Config) (*Follower, error) {
	var errs []error
	for _, f := range []struct {
		name    string
		missing bool
	}{
		{"Move", cfg.Move == ""},
		{"Direction", cfg.Direction != Forward && cfg.Direction != Reverse},
		{"Pairs", len(cfg.Pairs) == 0},
		{"Stream", cfg.Stream == nil},
		{"Source", cfg.Source == nil},
		{"Target", cfg.Target == nil},
		{"Slot", cfg.Slot == ""},
		{"Publication", cfg.Publication == ""},
		{"Fence", cfg.Fence.Owner == "" || cfg.Fence.State == ""},
	} {
		if f.missing {
			errs = append(errs, errors.New(f.name+" is missing or not valid"))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("configure the follower: %w", err)
	}
	cfg.Patience = cmp.Or(cfg.Patience, 2*time.Minute)
	cfg.Batch = cmp.Or(cfg.Batch, 5000)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Follower{cfg: cfg, log: cfg.Logger, targets: targets(cfg.Pairs), marks: map[string]*mark{}}, nil
}

// Stats tells how far the follower is.
func (f *Follower) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.now.Stats
	if !f.now.oldest.IsZero() {
		s.Lag = max(0, time.Since(f.now.oldest))
	}
	return s
}

// Run follows until ctx ends, which is its error then, or until it cannot go on: [ErrFencedOff], [ErrTruncate],
// [ErrSchemaChanged], [ErrSlotLost], a [*ConflictError], an error of a function given to At, or what has kept the servers out
// of reach for longer than Patience. What it has begun and not committed is gone; another Follower goes on where it was.
func (f *Follower) Run(ctx context.Context) error {
	const firstPause, longestPause = 20 * time.Millisecond, 2 * time.Second
	pause, since, applied := firstPause, time.Now(), repl.LSN(0)
	for {
		err := f.session(ctx)
		if cause := context.Cause(ctx); cause != nil {
			return fmt.Errorf("follow the changes: %w", cause)
		}
		if now := f.Stats().Applied; now != applied {
			pause, since, applied = firstPause, time.Now(), now
		}
		if !passing(err) || time.Since(since) > f.cfg.Patience {
			return fmt.Errorf("follow the changes: %w", err)
		}
		f.log.WarnContext(ctx, "the change stream is interrupted", "move", f.cfg.Move, "error", err)
		f.note(func(s *standing) { s.Reconnects++ })
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

func (f *Follower) note(change func(*standing)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.now)
}
