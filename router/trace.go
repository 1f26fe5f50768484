package router

import (
	"context"
	"time"

	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// Op is what a call does.
type Op string

// The ops.
const (
	OpExec  Op = "exec"
	OpQuery Op = "query"
	OpBatch Op = "batch"
	OpCopy  Op = "copy"
	OpTx    Op = "tx" // a whole transaction, callback included
)

// Call is what is known of a call when it begins.
type Call struct {
	Op     Op
	Tenant tenant.ID // none: work across tenants
	Verb   string    // first word of a single statement, in lower case; empty: of none, or of one that is refused
}

// End is what is known of a call when it is over. A query is when its rows are closed.
type End struct {
	Model   placement.Model // empty: the call got nowhere, or works across tenants
	Cluster string          // empty: the call got nowhere
	Retries int             // tries beyond the first, of which nothing had run
	Err     error           // what the caller was told; nil: it succeeded. Its text may quote values: see Outcome
}

// Tracer is told of every call of a DB, of every Tx as a whole, and of every statement inside one. It never sees SQL or
// arguments, which may hold customers' data.
type Tracer interface {
	// Start is called when a call begins. It returns the context that the call goes on with, and what is to be called once,
	// when the call is over. Calls run at the same time.
	Start(ctx context.Context, c Call) (context.Context, func(End))
}

// way is where a call went.
type way struct {
	route   *route // nil: nowhere
	retries int
}

// observed is a call on its way. The zero value is one that nobody asks about.
type observed struct {
	r        *Router // whose statistics count it; nil: nobody's
	tenant   tenant.ID
	started  time.Duration // see stats.now
	finished func(End)     // the tracer's; nil: none
}

// observe begins a call that counts.
func (r *Router) observe(ctx context.Context, c Call) (context.Context, observed) {
	ctx, o := r.trace(ctx, c)
	o.r, o.tenant, o.started = r, c.Tenant, r.stats.now()
	return ctx, o
}

// trace begins a call that is part of one that counts.
func (r *Router) trace(ctx context.Context, c Call) (context.Context, observed) {
	if r.cfg.Tracer == nil {
		return ctx, observed{}
	}
	ctx, finished := r.cfg.Tracer.Start(ctx, c)
	return ctx, observed{finished: finished}
}

// end tells how a call that went w has ended.
func (o observed) end(w way, err error) {
	if o.r != nil {
		o.r.stats.add(o.tenant, w, err, o.started)
	}
	if o.finished == nil {
		return
	}
	e := End{Retries: w.retries, Err: err}
	if w.route != nil {
		e.Model, e.Cluster = w.route.model, w.route.target.cluster.Name
	}
	o.finished(e)
}

// run does what begins a call, and ends the call where that fails or panics.
func (o observed) run(went func() way, begin func() error) (err error) {
	returned := false
	defer func() {
		switch {
		case !returned: // a panic, or the goroutine's exit, goes on after this
			o.end(went(), errPanic)
		case err != nil:
			o.end(went(), err)
		}
	}()
	err = begin()
	returned = true
	return err
}

// trace begins a call that is part of tx; since tells where it went.
func (tx *Tx) trace(ctx context.Context, op Op, verb string) (context.Context, observed, way) {
	ctx, o := tx.r.trace(ctx, Call{Op: op, Tenant: tx.tenant, Verb: verb})
	return ctx, o, tx.way
}

func (tx *Tx) since(before way) way { return way{tx.way.route, tx.way.retries - before.retries} }

// traced runs one statement of the application's, which a tracer sees.
func (tx *Tx) traced(ctx context.Context, op Op, sql string, args []any) (r *rows, err error) {
	if tx.r.cfg.Tracer == nil {
		return tx.checked(ctx, op, sql, args)
	}
	verb, _ := check(sql)
	ctx, o, before := tx.trace(ctx, op, verb)
	err = o.run(func() way { return tx.since(before) }, func() error {
		r, err = tx.checked(ctx, op, sql, args)
		return err
	})
	switch {
	case err != nil:
	case op == OpExec:
		o.end(tx.since(before), r.err)
	default:
		r.seen = func(err error) { o.end(tx.since(before), err) }
	}
	return r, err
}
