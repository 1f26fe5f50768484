package move

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/move/cutover"
	"github.com/landlord-go/landlord/placement"
)

// patience is how long a step is tried again when its servers cannot be reached, or cannot do it now.
const patience = 5 * time.Minute

// retrying runs fn, and again while it fails for reasons that pass.
func (d *drive) retrying(ctx context.Context, fn func(context.Context) error) error {
	began := time.Now()
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := fn(ctx)
		if err == nil || !passes(err) || time.Since(began) > patience || ctx.Err() != nil {
			if err == nil {
				d.note("")
			}
			return err
		}
		d.log.WarnContext(ctx, "the move waits, and tries again", "move", d.mv.ID, "phase", string(d.mv.Phase), "error", err)
		d.note(err.Error())
		if sleepErr := sleep(ctx, pause/2+rand.N(pause)); sleepErr != nil {
			return errors.Join(sleepErr, err)
		}
	}
}

// enoughError reports what was tried for as long as it may be, which a person decides to try again.
type enoughError struct{ err error }

func (e *enoughError) Error() string { return e.err.Error() }
func (e *enoughError) Unwrap() error { return e.err }

// passes tells whether what has failed may succeed later without anybody's doing.
func passes(err error) bool {
	if _, enough := errors.AsType[*enoughError](err); enough {
		return false
	}
	if code := pgerr.Code(err); code != "" {
		switch code[:2] {
		case "08", "53", "57":
			return code != pgerr.QueryCanceled
		}
		return pgerr.Is(err, pgerr.LockNotAvailable, pgerr.DeadlockDetected, pgerr.SerializationFailure, pgerr.ObjectInUse, pgerr.IdleInTransactionTimeout)
	}
	var active *repl.SlotActiveError
	var connecting *pgconn.ConnectError
	var busy *cutover.BusyError
	var network net.Error
	for _, one := range []error{
		placement.ErrUnavailable, placement.ErrBusy, repl.ErrSilent, repl.ErrEnded, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
	} {
		if errors.Is(err, one) {
			return true
		}
	}
	return errors.As(err, &busy) || errors.As(err, &active) || errors.As(err, &connecting) || errors.As(err, &network) || pgconn.SafeToRetry(err)
}
