package move

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move/chunk"
	"github.com/landlord-go/landlord/move/follow"
	"github.com/landlord-go/landlord/move/table"
)

// stream is a follower at work. It goes on from phase to phase.
type stream struct {
	*follow.Follower
	before int64 // changes that were applied by others
	stop   context.CancelFunc
	ended  chan struct{}
	err    error // readable once ended is closed
}

// leg is one way between the two homes: from the one that is open to the one that is kept in step.
type leg struct {
	direction string
	from, to  side
	state     isolation.FenceState // of to
	pairs     []table.Pair

	fromSequences, toSequences []table.Sequence // all of the homes' schemas
}

func (d *drive) leg(direction string) leg {
	if direction == forward {
		return leg{
			direction: forward, from: d.source, to: d.target, state: isolation.Importing, pairs: d.pairs,
			fromSequences: d.sequences[0], toSequences: d.sequences[1],
		}
	}
	l := leg{
		direction: reverse, from: d.target, to: d.source, state: isolation.Moved,
		fromSequences: d.sequences[1], toSequences: d.sequences[0],
	}
	for _, p := range d.pairs {
		l.pairs = append(l.pairs, p.Reverse())
	}
	return l
}

// startStream begins to follow, or goes on. The stream ends with ctx, which is the drive's and not a step's.
func (d *drive) startStream(ctx context.Context, l leg, at repl.LSN) error {
	cfg := follow.Config{
		Move: d.mv.ID, Direction: follow.Direction(l.direction), Pairs: l.pairs,
		Stream: func(ctx context.Context) (*repl.Conn, error) {
			cfg, err := l.from.config()
			if err != nil {
				return nil, err
			}
			return repl.Connect(ctx, cfg)
		},
		Source: l.from.connect, Target: l.to.connect,
		Slot: slotName(d.mv, l.direction), Publication: slotName(d.mv, l.direction),
		From:   at,
		Fence:  follow.Fence{FenceKey: l.to.key(), State: l.state, Owner: d.owner},
		Logger: d.log,
	}
	if l.direction == forward {
		err := l.to.with(ctx, func(conn *pgx.Conn) error {
			copied, err := chunk.Load(ctx, conn, d.mv.ID, l.pairs, l.from.connect)
			cfg.Copied = copied
			return err
		})
		if err != nil {
			return err
		}
	}
	without(&cfg)
	f, err := follow.New(cfg)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	s := &stream{Follower: f, before: d.mv.Changes, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		s.err = f.Run(ctx)
	}()
	d.mu.Lock()
	d.stream = s
	d.mu.Unlock()
	return nil
}

// stopStream ends the stream, if there is one, and waits for it.
func (d *drive) stopStream() {
	s := d.stream
	if s == nil {
		return
	}
	s.stop()
	<-s.ended
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mv.Changes = s.before + s.Stats().Changes
	d.stream = nil
}

// failed is why the stream has ended, or nil: it goes on.
func (s *stream) failed() error {
	select {
	case <-s.ended:
		return s.err
	default:
		return nil
	}
}

// catchUp returns how long a message took through the stream: everything that was committed before it is applied then.
func (d *drive) ping(ctx context.Context, l leg) (time.Duration, error) {
	s := d.stream
	token := "ping " + uuid.NewString()
	met := make(chan struct{})
	cancel := s.At(token, func(context.Context, repl.LSN) error {
		close(met)
		return nil
	})
	defer cancel()
	began := time.Now()
	if err := say(ctx, l.from, token); err != nil {
		return 0, err
	}
	select {
	case <-met:
		return time.Since(began), nil
	case <-s.ended:
		return 0, s.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// say writes a message into the change stream of a home's database.
func say(ctx context.Context, at side, token string) error {
	return at.with(ctx, func(conn *pgx.Conn) error {
		const q = `select pg_logical_emit_message(true, '` + isolation.MessagePrefix + `', $1)`
		if _, err := conn.Exec(ctx, q, token); err != nil {
			return fmt.Errorf("write into the log at %s: %w", at.Home, err)
		}
		return nil
	})
}

// prove shows that a slot which nobody reads yet delivers what is written. What was written since the slot was made is passed over: the
// other tenants of a busy server may have written much.
func (d *drive) prove(ctx context.Context, l leg) error {
	if err := d.letGo(ctx, l); err != nil {
		return err
	}
	token := "proof " + uuid.NewString()
	if err := say(ctx, l.from, token); err != nil {
		return err
	}
	cfg, err := l.from.config()
	if err != nil {
		return err
	}
	conn, err := repl.Connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	name := slotName(d.mv, l.direction)
	if err := conn.Start(ctx, name, 0, name); err != nil {
		return err
	}
	for {
		msg, err := conn.Receive(ctx)
		if err != nil {
			return fmt.Errorf("try the stream from %s: %w", l.from.Home, err)
		}
		switch msg := msg.(type) {
		case *repl.Logical:
			if msg.Prefix == isolation.MessagePrefix && string(msg.Content) == token {
				return nil
			}
		case repl.Logical:
			if msg.Prefix == isolation.MessagePrefix && string(msg.Content) == token {
				return nil
			}
		}
	}
}

// letGo lets the server forget what a slot that nobody reads yet holds back: the stream will begin at a later position.
func (d *drive) letGo(ctx context.Context, l leg) error {
	return l.from.with(ctx, func(conn *pgx.Conn) error {
		const q = `
select pg_replication_slot_advance(slot_name, pg_current_wal_lsn()) from pg_replication_slots where slot_name = $1 and not active`
		_, err := conn.Exec(ctx, q, slotName(d.mv, l.direction))
		return err
	})
}

// key is that of the home's fence row.
func (s side) key() isolation.FenceKey {
	return isolation.FenceKey{Tenant: s.Tenant.String(), Home: s.Home.String()}
}

// isStreamEnd tells whether err is one with which a stream ends for good.
func isStreamEnd(err error) bool {
	var conflict *follow.ConflictError
	return errors.Is(err, follow.ErrTruncate) || errors.Is(err, follow.ErrSchemaChanged) || errors.As(err, &conflict)
}
