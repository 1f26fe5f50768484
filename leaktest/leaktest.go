// Package leaktest proves, in a team's own tests, that no tenant sees another.
//
// It is given pairs of tenants that have rows, one pair for each model, and tries from each of them to reach the other's: in every
// relation that the application's login can reach, found in PostgreSQL's own catalog, so that a new table is covered on the day it is
// made; by every door of the router; after every way in which a transaction can end; and through the team's HTTP handler. A test
// about absence proves presence first: a table without rows, or a relation that does not say whose it is, fails.
//
// What it changes it rolls back. It proves what its tenants can reach; landlord audit reads the rules themselves, and both together
// are meant to run in CI.
//
//landlordvet:allow built names of relations and columns are quoted where they are read
package leaktest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

// Pair is two tenants with rows in every table, best on the same cluster and in the same model. Each is tried against the other.
type Pair struct {
	Name string // of the subtest, such as the model
	A, B tenant.ID
}

// Config of a Run.
type Config struct {
	// Pairs of tenants. At least one; one for each model that the service uses.
	Pairs []Pair
	// Empty names tables, without their schema, that need no rows. What has none proves nothing.
	Empty []string
	// Unclassified names relations, without their schema, that are neither tenant-owned nor say in their comment what they are, and
	// that is known.
	Unclassified []string
	// SharedKeys names unique indexes that hold over all tenants, as is wanted.
	SharedKeys []string
	// Plain says that homes are of mode plain, which guards against filters that were forgotten and not against SQL that is hostile:
	// attempts to become another tenant by SQL are left out, for they succeed.
	Plain bool
	// API, if not nil, is tried too.
	API *API
	// Written, if not nil, returns all that the service has written so far in logs, metrics and spans. What is added while one
	// tenant alone is at work may not hold a word of the other's.
	Written func() string
}

// API is the service's HTTP handler and what is to be tried at it.
type API struct {
	Handler http.Handler
	// Request makes a request with the credential of a tenant.
	Request func(as tenant.ID, method, path, body string) *http.Request
	// Objects are what is reached by an id.
	Objects []Object
	// Lists are what shows many things at once: lists, searches, exports, caches, results of jobs.
	Lists []Call
}

// Object is a kind of thing that is reached by its id.
type Object struct {
	Name string
	// ID is the id of a thing of the tenant's that exists.
	ID func(tenant.ID) string
	// Unknown returns an id of the same form that nothing has.
	Unknown func() string
	// Calls have {id} in their path or body. The first is a GET that shows the thing.
	Calls []Call
}

// Call is a request without its credential.
type Call struct{ Method, Path, Body string }

func (c Config) validate() error {
	var errs []error
	if len(c.Pairs) == 0 {
		errs = append(errs, errors.New("Pairs is empty: name two tenants that have rows"))
	}
	for _, p := range c.Pairs {
		if p.A.IsZero() || p.B.IsZero() || p.A == p.B {
			errs = append(errs, fmt.Errorf("pair %q is not of two tenants", p.Name))
		}
	}
	if a := c.API; a != nil {
		if a.Handler == nil || a.Request == nil || len(a.Objects)+len(a.Lists) == 0 {
			errs = append(errs, errors.New("API needs Handler, Request, and Objects or Lists"))
		}
		for _, o := range a.Objects {
			if o.ID == nil || o.Unknown == nil || len(o.Calls) == 0 || o.Calls[0].Method != http.MethodGet {
				errs = append(errs, fmt.Errorf("object %q needs ID, Unknown and Calls, of which the first is a GET", o.Name))
			}
		}
	}
	return errors.Join(errs...)
}

// Run tries everything, in a subtest for each pair and direction. The router may be in use by others meanwhile.
func Run(t *testing.T, r *router.Router, cfg Config) {
	t.Helper()
	if err := cfg.validate(); err != nil {
		t.Fatalf("configure leaktest: %v", err)
	}
	for _, p := range cfg.Pairs {
		for _, d := range []struct {
			name     string
			from, to tenant.ID
		}{{"a to b", p.A, p.B}, {"b to a", p.B, p.A}} {
			t.Run(p.Name+"/"+d.name, func(t *testing.T) {
				run(t, r, cfg, d.from, d.to)
			})
		}
	}
}

// trial is one direction of a pair: what the thief tries to reach of the victim's.
type trial struct {
	cfg           Config
	thief, victim *router.DB
	loot          []relation // what the victim has rows in
}

func run(t *testing.T, r *router.Router, cfg Config, thief, victim tenant.ID) {
	tr := &trial{cfg: cfg, thief: r.Tenant(thief), victim: r.Tenant(victim)}
	ctx := t.Context()
	var err error
	if tr.loot, err = tr.takeStock(ctx); err != nil {
		t.Fatalf("look at what the victim has: %v", err)
	}
	before, err := tr.fingerprint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	closed := t.Run("relations", tr.relations)
	closed = t.Run("rows", tr.rows) && closed
	if closed { // else whatever is tried would be said to open the door
		if !cfg.Plain {
			t.Run("forgeries", tr.forgeries)
		}
		t.Run("endings", tr.endings)
	}
	if cfg.API != nil {
		t.Run("api", tr.api)
	}
	after, err := tr.fingerprint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if before != after {
		t.Errorf("the rows of tenant %s have changed, and nobody else was to write them: %s, now %s", victim, before, after)
	}
}

// errUndo ends a transaction that was only tried.
var errUndo = errors.New("undo")

// try runs fn in a transaction of db that is rolled back, whatever it has done.
func try(ctx context.Context, db *router.DB, fn func(ctx context.Context, tx *router.Tx) error) error {
	err := db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
		if err := fn(ctx, tx); err != nil {
			return err
		}
		return errUndo
	})
	if errors.Is(err, errUndo) {
		return nil
	}
	return err
}
