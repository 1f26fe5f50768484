package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/router"
)

// slotsPerWriter is how many customers a writer has at most.
const slotsPerWriter = 32

// errBroken reports an operation that did not find the rows as an acknowledged one has left them.
var errBroken = errors.New("what was acknowledged is not there")

// writer is one client of the tenant, with its ledger. Its rows are touched by nobody else.
type writer struct {
	load  *Load
	name  string // begins the e-mail address of each of its customers
	email string // of the journal
	rand  *rand.Rand

	ids   int
	last  string // the operation that the journal names
	slots []slot
	open  *openOperation // at most one: nothing is begun before its outcome is known

	broken bool // it has stopped because something is not there, or there twice
	result Result
}

// openOperation is one whose outcome is unknown.
type openOperation struct {
	operation
	mark string // what the journal is moved to when it is found not to be committed
}

func newWriter(l *Load, n int) *writer {
	w := &writer{load: l, name: fmt.Sprintf("load-%s-%d-", l.run, n), rand: rand.New(rand.NewPCG(rand.Uint64(), uint64(n)))}
	w.email = w.name + "journal"
	w.slots = make([]slot, slotsPerWriter)
	for i := range w.slots {
		w.slots[i].email = fmt.Sprintf("%s%d", w.name, i)
	}
	w.last = w.newID()
	return w
}

func (w *writer) newID() string {
	w.ids++
	return fmt.Sprintf("%s#%d", w.name, w.ids)
}

// begin makes the journal.
func (w *writer) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.load.cfg.Patience)
	defer cancel()
	return w.load.cfg.DB.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
		if _, err := tx.Exec(ctx, "select from order_lines l join orders o on o.id = l.order_id where false"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, insertCustomer, w.email, w.last)
		return err
	})
}

// work runs operations until stop ends, or one shows that something is lost: then the comparison says what.
func (w *writer) work(stop, ctx context.Context) {
	for stop.Err() == nil {
		var err error
		if w.rand.IntN(5) == 0 {
			err = w.timed(ctx, w.read)
		} else {
			err = w.timed(ctx, w.write)
		}
		pause := w.load.cfg.Think
		switch {
		case errors.Is(err, errBroken):
			w.broken = true
			w.find(err)
			return
		case err != nil:
			w.result.Errors++
			w.find(err)
			pause = max(pause, 50*time.Millisecond) // whoever is refused at once does not ask at once
		}
		if pause > 0 {
			select {
			case <-stop.Done():
			case <-time.After(pause):
			}
		}
	}
}

func (w *writer) timed(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, w.load.cfg.Patience)
	defer cancel()
	began := time.Now()
	err := fn(ctx)
	w.result.SlowestMS = max(w.result.SlowestMS, milliseconds(time.Since(began)))
	return err
}

// find keeps what was found first.
func (w *writer) find(err error) {
	if len(w.result.Findings) < 3 {
		w.result.Findings = append(w.result.Findings, strings.Join(strings.Fields(w.name+": "+err.Error()), " "))
	}
}

func (w *writer) isolation() pgx.TxIsoLevel {
	if level := w.load.cfg.Isolation; level != "" {
		return level
	}
	switch w.rand.IntN(10) {
	case 0, 1:
		return pgx.RepeatableRead
	case 2:
		return pgx.Serializable
	}
	return ""
}

// write runs one operation until its outcome is known.
func (w *writer) write(ctx context.Context) error {
	if w.open != nil {
		return w.settle(ctx)
	}
	op := w.next()
	err := w.retried(func() error { return w.try(ctx, op) })
	switch {
	case err == nil:
		w.load.pulse.beat(time.Now(), true)
		w.result.Acked++
		w.last = op.id
		op.done()
	case errors.Is(err, router.ErrOutcomeUnknown) || ctx.Err() != nil:
		w.result.Unknown++
		w.open = &openOperation{op, w.newID()}
		return w.settle(ctx)
	}
	return err
}

// retried repeats what fails for no other reason than what goes on at the same time.
func (w *writer) retried(fn func() error) error {
	for {
		err := fn()
		if !pgerr.Is(err, pgerr.SerializationFailure) {
			return err
		}
		w.result.Retries++
	}
}

func (w *writer) try(ctx context.Context, op operation) error {
	level := w.isolation()
	if len(op.steps) == 1 && level == "" {
		tag, err := w.load.cfg.DB.Exec(ctx, op.steps[0].sql, op.steps[0].args...)
		return op.steps[0].judge(op, tag, err)
	}
	return w.load.cfg.DB.TxWith(ctx, router.TxOptions{Isolation: level}, func(ctx context.Context, tx *router.Tx) error {
		for _, s := range op.steps {
			tag, err := tx.Exec(ctx, s.sql, s.args...)
			if err := s.judge(op, tag, err); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s step) judge(op operation, tag pgconn.CommandTag, err error) error {
	if err == nil && tag.RowsAffected() != s.rows {
		err = fmt.Errorf("%w: %s, after %s, wrote %d rows instead of %d", errBroken, op.id, op.before, tag.RowsAffected(), s.rows)
	}
	return err
}

// settle finds out whether the open operation is committed. What of it is still under way holds the journal's lock, which the
// looking waits for; and moving the journal on keeps what may yet arrive from doing anything.
func (w *writer) settle(ctx context.Context) error {
	op := w.open
	var name string
	var err error
	for ctx.Err() == nil {
		err = w.load.cfg.DB.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
			if err := tx.QueryRow(ctx, "select name from customers where email = $1 for update", w.email).Scan(&name); err != nil {
				return err
			}
			if name == op.id {
				return nil
			}
			_, err := tx.Exec(ctx, moveJournal, op.mark, w.email, name)
			return err
		})
		if err == nil {
			break
		}
		select { // whatever took the connection may still be there
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%w: the journal is gone", errBroken)
	case err != nil:
		return fmt.Errorf("find out whether %s is committed: %w", op.id, err)
	}
	return w.settled(name)
}

// settled takes down what the journal says of the open operation.
func (w *writer) settled(name string) error {
	op := w.open
	w.open = nil
	switch name {
	case op.id:
		w.result.UnknownCommitted++
		w.last = op.id
		op.done()
	case op.before, op.mark:
		w.last = op.mark
	default:
		return fmt.Errorf("%w: the journal says %s instead of %s", errBroken, name, op.before)
	}
	return nil
}

// read looks, in a read-only transaction, at the journal and at one customer.
func (w *writer) read(ctx context.Context) error {
	if w.open != nil {
		return w.settle(ctx)
	}
	s := &w.slots[w.rand.IntN(len(w.slots))]
	var want, have int64
	for _, l := range s.lines {
		want += int64(l.quantity)
	}
	var last string
	opts := router.TxOptions{Isolation: w.isolation(), ReadOnly: true}
	err := w.retried(func() error {
		return w.load.cfg.DB.TxWith(ctx, opts, func(ctx context.Context, tx *router.Tx) error {
			if err := tx.QueryRow(ctx, "select name from customers where email = $1", w.email).Scan(&last); err != nil {
				return err
			}
			return tx.QueryRow(ctx, sumLines, s.email).Scan(&have)
		})
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%w: the journal is gone", errBroken)
	case err != nil:
		return err
	case last != w.last:
		return fmt.Errorf("%w: the journal says %s instead of %s", errBroken, last, w.last)
	case have != want:
		return fmt.Errorf("%w: a quantity of %d instead of %d after %s", errBroken, have, want, s.op)
	}
	w.result.Reads++
	return nil
}
