// Package cutover passes a tenant from the home where it is open to the one that has been brought in step with it.
//
// It guarantees that at no instant both homes are open; that every change which the tenant committed at the old home is at the new one
// before that opens; that before the commit point the tenant's writers wait for MaxPause at most, or the attempt is undone; and that
// after it nothing stops the opening of the new home, whoever completes it. One row decides, beside the data of the old home. A
// rollback is the same with the homes exchanged.
//
// Copying the rows and following their changes is left to others, and so is the catalog, which is told afterwards.
package cutover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move/verify"
)

// Home is one of the two homes.
type Home struct {
	Key   isolation.FenceKey
	Model string
	Epoch int64 // of the old home: the one that is open; of the new home: the one that it is to have
	// Connect opens a session of the operator in the home's database, past every pooler.
	Connect func(context.Context) (*pgx.Conn, error)
}

// Follower applies the old home's changes to the new one.
type Follower interface {
	// At has fn called once when the message with this token is met in the stream: everything before it is applied and committed
	// then, and nothing after it. It does not wait for that. cancel takes it back.
	At(token string, fn func(ctx context.Context, at repl.LSN) error) (cancel func() bool)
}

// Config of a Cutover.
type Config struct {
	Move     string // uuid
	Owner    string // uuid of the mover, which owns the new home's fence and will own the old one's
	From, To Home
	ToState  isolation.FenceState // of the new home until it is opened: Importing, or Moved in a rollback
	Address  isolation.Address    // of the new home, for those who still come to the old one
	Follower Follower
	// Sequences of the new home that must not give out again what the old one has given.
	Sequences []Sequence
	// Same tells that both homes lie in one database: both rows change in one transaction.
	Same bool
	// Back tells to put down where the stream of the way back begins. Not in a rollback.
	Back bool

	MaxPause    time.Duration // how long the tenant's writers may wait before the commit point; 0: 500 ms
	MaxLag      time.Duration // between a message and its arrival, before an attempt is made; 0: a tenth of MaxPause, and 50 ms at least
	LockTimeout time.Duration // how long to wait for the tenant's open transactions, with its writers behind; 0: 250 ms
	MaxStalls   int           // how many attempts a minute may make the tenant's writers wait and fail; 0: 6
	Patience    time.Duration // how long to go on trying; 0: a minute
	Stalls      *Stalls       // of the cutovers of the same tenant that went before, which count; nil: there were none

	// Step, if not nil, is called between the steps with their names. Its error counts as theirs.
	Step   func(ctx context.Context, name string) error
	Logger *slog.Logger // nil: none
}

// Result is what has come of a cutover. The zero value: nothing.
type Result struct {
	Committed bool          // the tenant lives at the new home, whatever else went wrong
	Opened    bool          // and can enter it
	Pause     time.Duration // how long the tenant's writers waited at the last attempt, as the old home's server saw it
	Drain     time.Duration // of these, for open transactions
	Attempts  int
	Position  repl.LSN // of the message in the old home's log up to which the new one was brought
	Back      repl.LSN // where the way back begins in the new home's log
	// Both homes as they were when neither was open, to compare at leisure. The caller closes them. Nil where the cutover was not
	// committed, or is completed by another process than committed it.
	Before, After *verify.Snapshot
}

// BusyError reports what was tried for as long as it might be. Nothing has changed.
type BusyError struct {
	Act      string
	Attempts int
	Err      error // why the last attempt failed
}

func (e *BusyError) Error() string {
	if e.Attempts == 0 {
		return fmt.Sprintf("%s: not tried, because %v; try again in a minute", e.Act, e.Err)
	}
	return fmt.Sprintf("%s: given up after %d attempts, the last one because %v; try again at a quieter time, or with a longer pause",
		e.Act, e.Attempts, e.Err)
}

func (e *BusyError) Unwrap() error { return e.Err }

// UnsettledError reports an attempt of which it is not known what has become, because the old home's server does not answer. Settle
// finds out.
type UnsettledError struct{ Err error }

func (e *UnsettledError) Error() string {
	return fmt.Sprintf("cut over: what has become of the attempt is not known yet: %v; the move finds out as soon as the old home answers", e.Err)
}

func (e *UnsettledError) Unwrap() error { return e.Err }

// UnfinishedError reports a cutover behind its commit point whose new home could not be opened yet. Finish goes on.
type UnfinishedError struct{ Err error }

func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("cut over: it is committed, but the new home is not open yet: %v; the move goes on as soon as it can", e.Err)
}

func (e *UnfinishedError) Unwrap() error { return e.Err }

// Stalls are when attempts have made a tenant's writers wait in vain. Cutovers that share them keep to MaxStalls together. The zero
// value has none. It must not be used by two at once.
type Stalls struct{ at []time.Time }

// Cutover is one cutover. It is used once.
type Cutover struct {
	cfg Config
	log *slog.Logger
}

// New returns a cutover. It connects to nothing.
func New(cfg Config) (*Cutover, error) {
	var errs []error
	if cfg.From.Connect == nil || cfg.To.Connect == nil {
		errs = append(errs, errors.New("Connect is missing"))
	}
	if cfg.To.Epoch <= cfg.From.Epoch {
		errs = append(errs, fmt.Errorf("To.Epoch %d is not above From.Epoch %d", cfg.To.Epoch, cfg.From.Epoch))
	}
	if cfg.ToState != isolation.Importing && cfg.ToState != isolation.Moved {
		errs = append(errs, fmt.Errorf("ToState is %q", cfg.ToState))
	}
	for name, d := range map[string]time.Duration{
		"MaxPause": cfg.MaxPause, "MaxLag": cfg.MaxLag, "LockTimeout": cfg.LockTimeout, "Patience": cfg.Patience,
	} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s is below 0", name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("configure the cutover: %w", err)
	}
	cfg.MaxPause = cmp.Or(cfg.MaxPause, 500*time.Millisecond)
	cfg.MaxLag = cmp.Or(cfg.MaxLag, max(50*time.Millisecond, cfg.MaxPause/10))
	cfg.LockTimeout = min(cmp.Or(cfg.LockTimeout, 250*time.Millisecond), cfg.MaxPause)
	cfg.LockTimeout = max(cfg.LockTimeout, time.Millisecond) // less than that is no limit to the server
	cfg.MaxStalls = cmp.Or(cfg.MaxStalls, 6)
	cfg.Patience = cmp.Or(cfg.Patience, time.Minute)
	if cfg.Stalls == nil {
		cfg.Stalls = new(Stalls)
	}
	if cfg.Step == nil {
		cfg.Step = func(context.Context, string) error { return nil }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Cutover{cfg: cfg, log: cfg.Logger}, nil
}

const (
	firstBackOff = 50 * time.Millisecond
	lastBackOff  = 2 * time.Second
)

// Run tries until the tenant lives at the new home, Patience is over or ctx ends, which it must when the follower does. Until the
// commit point the end of ctx undoes the attempt, after it nothing does. What the error says of the tenant:
//   - *BusyError, ctx's, or one that matches isolation.ErrFence (somebody has suspended the tenant, or taken the move over): it
//     lives at the old home, as before;
//   - *UnsettledError: at one of both, see Settle;
//   - *UnfinishedError: at the new one, which is still closed, see Finish. Result.Committed is true then.
func (c *Cutover) Run(ctx context.Context) (r Result, err error) {
	err = c.try(ctx, "cut over", func(ctx context.Context) error {
		r.Attempts++
		return c.attempt(ctx, &r)
	})
	return r, err
}

// try calls fn until it returns something else than an *againError, Patience is over or ctx ends.
func (c *Cutover) try(ctx context.Context, act string, fn func(context.Context) error) error {
	began := time.Now()
	pause := firstBackOff
	wait := c.calm(began)
	last := errOften
	for attempts := 0; ; attempts++ {
		if wait > 0 {
			if time.Since(began)+wait > c.cfg.Patience {
				return &BusyError{Act: act, Attempts: attempts, Err: last}
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return fmt.Errorf("%s: %w", act, context.Cause(ctx))
			}
		}
		err := fn(ctx)
		again := new(againError)
		if !errors.As(err, &again) {
			return err
		}
		if again.stalled {
			c.cfg.Stalls.at = append(c.cfg.Stalls.at, time.Now())
		}
		c.log.InfoContext(ctx, "the move waits for a better moment", "home", c.cfg.From.Key.Home, "attempt", attempts+1, "error", again.err)
		last, wait = again.err, max(pause, c.calm(time.Now()))
		pause = min(2*pause, lastBackOff)
	}
}

// errOften is why an attempt is not even begun.
var errOften = errors.New("the tenant's writers have just waited in vain as often as they may in a minute")

// calm is how long to wait until one more attempt may make the tenant's writers wait.
func (c *Cutover) calm(now time.Time) time.Duration {
	n := len(c.cfg.Stalls.at) - c.cfg.MaxStalls
	if n < 0 {
		return 0
	}
	return max(0, c.cfg.Stalls.at[n].Add(time.Minute).Sub(now))
}

// againError is an attempt that failed, was undone and may succeed later.
type againError struct {
	err     error
	stalled bool // the tenant's writers have waited
}

func (e *againError) Error() string { return e.err.Error() }
func (e *againError) Unwrap() error { return e.err }

// lagError reports a stream that is too far behind.
type lagError struct{ lag time.Duration }

func (e *lagError) Error() string {
	return fmt.Sprintf("the new home was more than %v behind", e.lag.Round(time.Millisecond))
}

// pauseError reports an attempt that was not at its commit point in time.
type pauseError struct {
	longest time.Duration
	err     error // what it was at
}

func (e *pauseError) Error() string {
	return fmt.Sprintf("the tenant's writers would have waited for longer than %v (%v)", e.longest, e.err)
}

func (e *pauseError) Unwrap() error { return e.err }
