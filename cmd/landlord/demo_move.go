package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/load"
	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// demoWriters is how many writers work for the tenant that is moved.
const demoWriters = 4

// demoMove is what came of moving a tenant to a database of its own on the other server, and back, while it was worked for.
type demoMove struct {
	Tenant  string      `json:"tenant"`
	From    string      `json:"from"`
	To      string      `json:"to"`
	Rows    int64       `json:"rows"`     // copied
	Changes int64       `json:"changes"`  // that were made meanwhile, and applied, in both directions
	ThereMS float64     `json:"there_ms"` // the pause of the cutover
	BackMS  float64     `json:"back_ms"`  // that of the rollback
	Seconds float64     `json:"seconds"`
	Load    load.Result `json:"load"` // what the writers have met with, and what the comparison at the end has found
}

// demoMove takes a tenant there and back while writers work for it.
func (a *app) demoMove(ctx context.Context, r *router.Router, p placement.Placement) (d demoMove, err error) {
	h, err := a.houseWithKeys(ctx) // a new one, which knows the demo's migration
	if err != nil {
		return d, err
	}
	defer h.Close()
	t, err := h.catalog.Tenant(ctx, p.Tenant)
	if err != nil {
		return d, err
	}
	m, err := move.New(move.Config{Catalog: h.catalog, Homes: h.service})
	if err != nil {
		return d, err
	}
	a.progress("tenant %s moves to a database of its own on server b, and back, while it is worked for", t.Slug)
	work, stop := context.WithCancel(ctx)
	defer stop()
	var group errgroup.Group
	group.Go(func() (err error) {
		d.Load, err = load.New(load.Config{DB: r.Tenant(t.ID), Writers: demoWriters}).Run(work)
		return err
	})
	began := time.Now()
	there, back, err := thereAndBack(ctx, m, move.Request{Tenant: t, Model: placement.ModelDatabase, Cluster: "b"})
	d.Seconds = time.Since(began).Seconds()
	stop()
	if loadErr := group.Wait(); err == nil {
		err = loadErr
	}
	d.Tenant, d.From, d.To = string(t.Slug), there.Source.String(), there.Target.String()
	d.Rows, d.Changes = there.Rows, back.Changes
	d.ThereMS, d.BackMS = milliseconds(there.Pause), milliseconds(back.Pause)
	return d, err
}

func thereAndBack(ctx context.Context, m *move.Mover, r move.Request) (there, back placement.Move, err error) {
	if there, err = m.Start(ctx, r); err != nil {
		return there, back, err
	}
	if there, err = m.Drive(ctx, there.ID, move.ToReversing); err != nil {
		return there, back, err
	}
	back, err = m.Drive(ctx, there.ID, move.ToReverted)
	return there, back, err
}

func (d demoMove) write(w io.Writer) {
	l := d.Load
	fmt.Fprintf(w, "\nTenant %s was moved from %s to %s and back in %.1f s, while %d writers worked for it:\n", d.Tenant, d.From, d.To, d.Seconds, demoWriters)
	fmt.Fprintf(w, "  %d rows were copied, %d changes followed; the cutover kept writers waiting for %.0f ms, the way back for %.0f ms.\n",
		d.Rows, d.Changes, d.ThereMS, d.BackMS)
	fmt.Fprintf(w, "  Of %d acknowledged commits %d were lost and %d doubled; %d calls failed; for %.0f ms at most nobody heard of a commit.\n",
		l.Acked, l.Lost, l.Doubled, l.Errors, l.LongestGapMS)
	for _, finding := range l.Findings {
		fmt.Fprintf(w, "  %s\n", finding)
	}
}
