package load

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
)

// An operation is one writing transaction, as data: what it runs, how many rows that must meet, and what is true once it is
// committed.
type operation struct {
	id, before string // its own, and that of the operation that it follows
	steps      []step // one alone is sent as a single statement
	done       func() // takes down in the ledger what it has done
}

// step is a statement and the number of rows that it writes if everything is as the ledger says.
type step struct {
	sql  string
	args []any
	rows int64
}

// Every operation of a writer first moves the writer's journal, a customer whose name is the id of the last operation, from
// the one before. So an operation that has got lost stops its successor, and none can run twice.
const (
	moveJournal = `update customers set name = $1 where email = $2 and name = $3`

	insertCustomer = `insert into customers (email, name) values ($1, $2)`
	insertOrder    = `insert into orders (customer_id, currency) select id, 'EUR' from customers where email = $1`
	insertLines    = `
insert into order_lines (order_id, position, product, quantity, unit_price)
select o.id, n, $2, 1, 9.90
  from customers c join orders o on o.customer_id = c.id cross join generate_series(1, 3) n where c.email = $1`

	raise = `
with journal as (update customers set name = $1 where email = $2 and name = $3 returning 1),
    customer as (update customers set name = $1 where email = $4 and name = $5 and exists (select from journal) returning id)
update order_lines l set quantity = quantity + 1 from customer c join orders o on o.customer_id = c.id where l.order_id = o.id`

	addLine = `
with journal as (update customers set name = $1 where email = $2 and name = $3 returning 1)
insert into order_lines (order_id, position, product, quantity, unit_price)
select o.id, $6, $7, 1, 9.90
  from customers c join orders o on o.customer_id = c.id
 where c.email = $4 and c.name = $5 and exists (select from journal)`

	dropLine = `
with journal as (update customers set name = $1 where email = $2 and name = $3 returning 1)
delete from order_lines l using customers c, orders o
 where c.email = $4 and c.name = $5 and o.customer_id = c.id and l.order_id = o.id and l.position = $6
   and exists (select from journal)`

	// A new primary key, from the sequence of the identity column.
	changeLineKeys = `
update order_lines l set id = default
  from customers c join orders o on o.customer_id = c.id where c.email = $1 and c.name = $2 and l.order_id = o.id`
	changeEmail = `update customers set email = $1, name = $2 where email = $3 and name = $4`

	sumLines = `
select coalesce(sum(l.quantity), 0)
  from customers c join orders o on o.customer_id = c.id join order_lines l on l.order_id = o.id where c.email = $1`

	deleteOrder    = `delete from orders o using customers c where c.email = $1 and c.name = $2 and o.customer_id = c.id`
	deleteCustomer = `delete from customers where email = $1 and name = $2`
)

// lines is how many lines an order has at most.
const lines = 3

// slot is what the ledger says of one customer, with his one order.
type slot struct {
	email string
	op    string // the last operation that changed his name; empty: there is no such customer
	lines [lines]line
}

// line is an order line; quantity 0: there is none at this position.
type line struct {
	quantity int
	made     string // the operation whose product it has
}

func (s *slot) count() (n int64) {
	for _, l := range s.lines {
		if l.quantity > 0 {
			n++
		}
	}
	return n
}

// next chooses what a writer does next. It follows what the ledger says, so it is possible if the home agrees.
func (w *writer) next() operation {
	s, other := &w.slots[w.rand.IntN(len(w.slots))], &w.slots[w.rand.IntN(len(w.slots))]
	op := operation{id: w.newID(), before: w.last}
	n := w.rand.IntN(100)
	switch {
	case s.op == "":
		w.insert(&op, s)
	case n < 15:
		w.delete(&op, s)
	case n < 35 && other.op == "":
		w.changeKeys(&op, s, other)
	case n < 60:
		w.changeLine(&op, s, 1+w.rand.IntN(lines-1))
	default:
		w.raise(&op, s)
	}
	return op
}

func (w *writer) journal(op *operation) step {
	return step{moveJournal, []any{op.id, w.email, op.before}, 1}
}

func (w *writer) insert(op *operation, s *slot) {
	op.steps = []step{
		w.journal(op),
		{insertCustomer, []any{s.email, op.id}, 1},
		{insertOrder, []any{s.email}, 1},
		{insertLines, []any{s.email, product(op.id)}, lines},
	}
	op.done = func() {
		s.op = op.id
		for i := range s.lines {
			s.lines[i] = line{1, op.id}
		}
	}
}

func (w *writer) raise(op *operation, s *slot) {
	op.steps = []step{{raise, []any{op.id, w.email, op.before, s.email, s.op}, s.count()}}
	op.done = func() {
		s.op = op.id
		for i := range s.lines {
			if s.lines[i].quantity > 0 {
				s.lines[i].quantity++
			}
		}
	}
}

// changeLine takes a line away, or puts it back. The customer stays as he is.
func (w *writer) changeLine(op *operation, s *slot, i int) {
	args := []any{op.id, w.email, op.before, s.email, s.op, i + 1}
	if s.lines[i].quantity > 0 {
		op.steps = []step{{dropLine, args, 1}}
		op.done = func() { s.lines[i] = line{} }
		return
	}
	op.steps = []step{{addLine, append(args, product(op.id)), 1}}
	op.done = func() { s.lines[i] = line{1, op.id} }
}

// changeKeys gives the lines new primary keys, and the customer the e-mail address of one who is gone.
func (w *writer) changeKeys(op *operation, s, free *slot) {
	op.steps = []step{
		w.journal(op),
		{changeLineKeys, []any{s.email, s.op}, s.count()},
		{changeEmail, []any{free.email, op.id, s.email, s.op}, 1},
	}
	op.done = func() {
		free.op, free.lines = op.id, s.lines
		s.op, s.lines = "", [lines]line{}
	}
}

func (w *writer) delete(op *operation, s *slot) {
	op.steps = []step{
		w.journal(op),
		{deleteOrder, []any{s.email, s.op}, 1}, // its lines go with it
		{deleteCustomer, []any{s.email, s.op}, 1},
	}
	op.done = func() { s.op, s.lines = "", [lines]line{} }
}

// product is the text of a line that an operation makes. One in ten is so big that it is stored out of line, and so is missing
// from what logical replication says of an update that leaves it alone.
func product(op string) string {
	if !strings.HasSuffix(op, "7") {
		return op
	}
	noise := make([]byte, 6000)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(op))).Read(noise) // never fails
	return fmt.Sprintf("%s %s", op, base64.StdEncoding.EncodeToString(noise))
}
