package load

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/router"
)

// customer is what the home has of one: as a slot of the ledger, but with all the orders and lines that there may be.
type customer struct {
	name   string
	orders []int64
	lines  map[int][]foundLine // by position
}

type foundLine struct {
	quantity int
	product  string
}

// compare reads all of the writer's rows and counts what differs from the ledger.
func (w *writer) compare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.load.cfg.Patience)
	defer cancel()
	found, err := w.found(ctx)
	for err != nil {
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
			found, err = w.found(ctx)
		}
	}
	w.compareJournal(found[w.email])
	delete(found, w.email)
	for i := range w.slots {
		s := &w.slots[i]
		w.compareSlot(s, found[s.email])
		delete(found, s.email)
	}
	for email, c := range found {
		w.doubled(1, "%s is there, and no operation has made it (%s)", email, c.name)
	}
	return nil
}

// found reads the writer's customers, by e-mail address.
func (w *writer) found(ctx context.Context) (map[string]*customer, error) {
	const q = `
select c.email, c.name, coalesce(o.id, 0), coalesce(l.position, 0), coalesce(l.quantity, 0), coalesce(l.product, '')
  from customers c left join orders o on o.customer_id = c.id left join order_lines l on l.order_id = o.id
 where c.email like $1`
	all := map[string]*customer{}
	opts := router.TxOptions{Isolation: pgx.RepeatableRead, ReadOnly: true}
	err := w.load.cfg.DB.TxWith(ctx, opts, func(ctx context.Context, tx *router.Tx) error {
		clear(all)
		rows, err := tx.Query(ctx, q, w.name+"%")
		if err != nil {
			return err
		}
		var email, name string
		var order int64
		var position int
		var l foundLine
		_, err = pgx.ForEachRow(rows, []any{&email, &name, &order, &position, &l.quantity, &l.product}, func() error {
			c := all[email]
			if c == nil {
				c = &customer{name: name, lines: map[int][]foundLine{}}
				all[email] = c
			}
			if order > 0 && !slices.Contains(c.orders, order) {
				c.orders = append(c.orders, order)
			}
			if position > 0 {
				c.lines[position] = append(c.lines[position], l)
			}
			return nil
		})
		return err
	})
	return all, err
}

func (w *writer) compareJournal(c *customer) {
	switch {
	case c == nil:
		w.lost(1, "the journal is gone")
	case w.open != nil:
		if err := w.settled(c.name); err != nil {
			w.lost(1, "%v", err)
		}
	case c.name != w.last:
		w.lost(1, "the journal says %s instead of %s", c.name, w.last)
	}
}

func (w *writer) compareSlot(s *slot, c *customer) {
	switch {
	case s.op == "" && c != nil:
		w.lost(1, "%s is there again, as %s has left it", s.email, c.name)
		return
	case s.op == "":
		return
	case c == nil:
		w.lost(1, "%s is gone, which %s has changed last", s.email, s.op)
		return
	case c.name != s.op:
		w.lost(1, "%s is as %s has left it, and not as %s", s.email, c.name, s.op)
	}
	if len(c.orders) == 0 {
		w.lost(1, "the order of %s is gone", s.email)
	} else if more := len(c.orders) - 1; more > 0 {
		w.doubled(more, "%s has %d orders instead of one", s.email, len(c.orders))
	}
	for i, want := range s.lines {
		w.compareLine(fmt.Sprintf("line %d of %s", i+1, s.email), want, c.lines[i+1])
	}
}

func (w *writer) compareLine(what string, want line, found []foundLine) {
	switch {
	case want.quantity == 0 && len(found) > 0:
		w.lost(1, "%s is there again", what)
	case want.quantity > 0 && len(found) == 0:
		w.lost(1, "%s is gone", what)
	case want.quantity > 0:
		w.doubled(len(found)-1, "%s is there %d times", what, len(found))
		have := found[0]
		w.lost(want.quantity-have.quantity, "%s has a quantity of %d instead of %d", what, have.quantity, want.quantity)
		w.doubled(have.quantity-want.quantity, "%s has a quantity of %d instead of %d", what, have.quantity, want.quantity)
		if have.product != product(want.made) {
			w.lost(1, "the product of %s is not the one that %s has written", what, want.made)
		}
	}
}

// lost counts n things lost, if it is more than none.
func (w *writer) lost(n int, format string, args ...any) {
	if n > 0 {
		w.result.Lost += int64(n)
		w.find(fmt.Errorf(format, args...))
	}
}

// doubled counts n things that are there too often, if it is more than none.
func (w *writer) doubled(n int, format string, args ...any) {
	if n > 0 {
		w.result.Doubled += int64(n)
		w.find(fmt.Errorf(format, args...))
	}
}

// addTo adds what the writer has met with.
func (w *writer) addTo(r *Result) {
	if w.broken && w.result.Lost+w.result.Doubled == 0 {
		w.result.Lost++ // it was not there when it was looked for
	}
	r.Acked += w.result.Acked
	r.Reads += w.result.Reads
	r.Lost += w.result.Lost
	r.Doubled += w.result.Doubled
	r.Errors += w.result.Errors
	r.Unknown += w.result.Unknown
	r.UnknownCommitted += w.result.UnknownCommitted
	r.Retries += w.result.Retries
	r.SlowestMS = max(r.SlowestMS, w.result.SlowestMS)
	r.Findings = append(r.Findings, w.result.Findings...)
}
