package onboard_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

func TestAddBringsATenantInInEveryModelAndIDType(t *testing.T) {
	t.Parallel()
	for _, ids := range []tenant.IDType{tenant.UUID, tenant.BigInt, tenant.Text} {
		t.Run(string(ids), func(t *testing.T) {
			t.Parallel()
			e := newEstate(t, testhouse.Options{IDType: ids})
			service := e.Service
			if ids != tenant.UUID { // the sample's tables are made for uuids
				e.SuperExec(t, e.cluster(t, "a").SharedDatabase, "drop table order_lines, orders, customers, currencies")
				service = e.service(t, e.Catalog, tablesFor(ids))
				_, err := service.SetUp(t.Context(), e.cluster(t, "a"))
				require.NoError(t, err)
			}
			for _, m := range models {
				r, home := e.request(t, "acme-"+string(m), m)
				require.Empty(t, e.traces(t, r, home))
				p, err := service.Add(t.Context(), r)
				require.NoError(t, err)
				require.Equal(t, placement.Placement{Tenant: r.ID, Slug: r.Slug, State: placement.StateActive, Model: m, Home: home, Epoch: 1}, p)
				e.works(t, r.ID)
				_, err = service.Add(t.Context(), r)
				require.ErrorIs(t, err, placement.ErrExists)
				require.Equal(t, "open", e.fence(t, e.tenant(t, r.ID)))
				e.destroy(t, r.ID)
				require.Empty(t, e.traces(t, r, home))
			}
		})
	}
}

// tablesFor builds tables like the sample's for another type of ids.
func tablesFor(ids tenant.IDType) builder {
	return func(ctx context.Context, conn *pgx.Conn, schema, owner string) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "set local search_path = "+pgx.Identifier{schema}.Sanitize()); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `
create table if not exists customers (tenant_id `+string(ids)+`, id bigint generated always as identity, email text, name text);
create table if not exists currencies (code text); insert into currencies values ('EUR'); comment on table currencies is 'landlord: reference'`); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `call landlord.secure($1, nullif($2, ''))`, schema, owner)
			return err
		})
	}
}

func TestAddIntoAClusterThatDoesNotExist(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	for _, m := range models {
		r, home := e.request(t, "acme", m)
		r.Cluster = "nowhere"
		_, err := e.Service.Add(t.Context(), r)
		require.ErrorIs(t, err, placement.ErrUnknownCluster)
		require.Empty(t, e.traces(t, r, home))
	}
}

func TestAFailedAddLeavesNothing(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	tables, boom := sample(t), errors.New("boom")
	for _, m := range []placement.Model{placement.ModelSchema, placement.ModelDatabase} { // shared homes are built once
		for name, fail := range map[string]builder{
			"at once": func(context.Context, *pgx.Conn, string, string) error { return boom },
			"half-way": func(ctx context.Context, conn *pgx.Conn, schema, tenant string) error {
				return errors.Join(tables.Build(ctx, conn, schema, tenant), boom)
			},
			"in a transaction": func(ctx context.Context, conn *pgx.Conn, schema, _ string) error {
				_, err := conn.Exec(ctx, "begin; create table "+pgx.Identifier{schema, "x"}.Sanitize()+" (i int)")
				return errors.Join(err, boom)
			},
			"by being killed": func(ctx context.Context, conn *pgx.Conn, _, _ string) error {
				_, err := conn.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())")
				require.True(t, pgerr.Is(err, pgerr.AdminShutdown))
				return errors.Join(err, boom)
			},
		} {
			r, home := e.request(t, "acme", m)
			_, err := e.service(t, e.Catalog, fail).Add(t.Context(), r)
			require.ErrorIs(t, err, boom, "%s %s", m, name)
			require.Empty(t, e.traces(t, r, home), "%s %s", m, name)
			_, err = e.Service.Add(t.Context(), r)
			require.NoError(t, err, "%s %s: the name is free again", m, name)
			e.works(t, r.ID)
			e.destroy(t, r.ID)
		}
	}
}

// What has the tenant's name but was made by somebody else is neither used nor dropped, and nothing of ours stays beside it.
func TestAForeignHomeOfTheSameNameIsLeftAlone(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	shared := e.cluster(t, "a").SharedDatabase
	for _, c := range []struct {
		model placement.Model
		in    func(placement.Home) (database, make, drop string)
		stays string
	}{
		{placement.ModelSchema, func(h placement.Home) (string, string, string) {
			name := pgx.Identifier{h.Schema}.Sanitize()
			return shared, "create schema " + name + "; create table " + name + ".theirs (i int)", "drop table " + name + ".theirs; drop schema " + name
		}, "schema"},
		{placement.ModelDatabase, func(h placement.Home) (string, string, string) {
			return "postgres", "create database " + pgx.Identifier{h.Database}.Sanitize(), "drop database " + pgx.Identifier{h.Database}.Sanitize()
		}, "database"},
		{placement.ModelDatabase, func(h placement.Home) (string, string, string) {
			login := pgx.Identifier{placement.DedicatedLogin(h.Database)}.Sanitize()
			return "postgres", "create role " + login + " login password 'theirs'", "drop role " + login
		}, "login"},
	} {
		r, home := e.request(t, "acme", c.model)
		database, make, drop := c.in(home)
		e.SuperExec(t, database, make)
		_, err := e.Service.Add(t.Context(), r)
		require.ErrorIs(t, err, isolation.ErrForeign, c.stays)
		require.Equal(t, []string{c.stays}, e.traces(t, r, home))
		e.SuperExec(t, database, drop) // with all it held
		_, err = e.Service.Add(t.Context(), r)
		require.NoError(t, err)
		e.works(t, r.ID)

		// What is put in the home's place later is not dropped by Purge either, which says so.
		if c.model == placement.ModelSchema {
			e.SuperExec(t, shared, "drop schema "+pgx.Identifier{home.Schema}.Sanitize()+" cascade; "+make)
			require.NoError(t, e.Service.Remove(t.Context(), e.tenant(t, r.ID), 0))
			require.ErrorIs(t, e.Service.Purge(t.Context(), e.tenant(t, r.ID)), isolation.ErrForeign)
			require.Contains(t, e.traces(t, r, home), "tenant")
			e.SuperExec(t, shared, drop)
			require.NoError(t, e.Service.Purge(t.Context(), e.tenant(t, r.ID)))
		} else {
			e.destroy(t, r.ID)
		}
		require.Empty(t, e.traces(t, r, home))
	}
}

func TestTwoAddsOfOneTenantAtOnceEndInOneHome(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	for i, m := range append(models, models...) {
		r, home := e.request(t, fmt.Sprintf("twice-%d", i), m)
		if i >= len(models) {
			r.ID = tenant.ID{} // the catalog makes one up, once
		}
		results := make([]placement.Placement, 3)
		errs := make([]error, len(results))
		var group errgroup.Group
		for i := range results {
			group.Go(func() error {
				results[i], errs[i] = e.Service.Add(t.Context(), r)
				return nil
			})
		}
		require.NoError(t, group.Wait())
		won := 0
		for i, err := range errs {
			if err == nil {
				won++
				if r.ID.IsZero() {
					r.ID, home = results[i].Tenant, results[i].Home
					e.Forget(t, results[i])
				}
				require.Equal(t, placement.Placement{Tenant: r.ID, Slug: r.Slug, State: placement.StateActive, Model: m, Home: home, Epoch: 1}, results[i])
				continue
			}
			require.ErrorIs(t, err, placement.ErrExists, "one that came after the other had finished")
		}
		require.NotZero(t, won)
		e.works(t, r.ID)
		e.destroy(t, r.ID)
		require.Empty(t, e.traces(t, r, home))
	}
}

// One of two that work on the same tenant fails. It must not take away what the other has finished, and the other must not
// report a home that is being taken away.
func TestOfTwoAddsOneThatFailsTakesNothingFromTheOther(t *testing.T) {
	t.Parallel()
	e := newEstate(t, testhouse.Options{})
	tables, boom := sample(t), errors.New("boom")
	for _, m := range []placement.Model{placement.ModelSchema, placement.ModelDatabase} {
		for _, first := range []string{"the good one ends first", "the bad one ends first"} {
			r, home := e.request(t, fmt.Sprintf("both-%s-%d", m, len(first)), m)
			reached, proceed := make(chan struct{}), make(chan struct{})
			type result struct {
				p   placement.Placement
				err error
			}
			late := make(chan result)
			slow := func(fail error) { // ends when it is let, with this error if it is one
				service := e.service(t, e.Catalog, builder(func(ctx context.Context, conn *pgx.Conn, schema, tenant string) error {
					close(reached)
					<-proceed
					return errors.Join(tables.Build(ctx, conn, schema, tenant), fail)
				}))
				go func() {
					p, err := service.Add(t.Context(), r)
					late <- result{p, err}
				}()
			}
			if first == "the good one ends first" {
				slow(boom)
				<-reached
				p, err := e.Service.Add(t.Context(), r)
				require.NoError(t, err)
				close(proceed)
				got := <-late
				require.NoError(t, got.err, "what was asked for is there")
				require.Equal(t, p, got.p)
				e.works(t, r.ID)
				e.destroy(t, r.ID)
			} else {
				slow(nil)
				<-reached
				_, err := e.service(t, e.Catalog, builder(func(context.Context, *pgx.Conn, string, string) error { return boom })).Add(t.Context(), r)
				require.ErrorIs(t, err, boom)
				close(proceed)
				require.NoError(t, (<-late).err, "only the one that placed the tenant undoes")
				e.works(t, r.ID)
				e.destroy(t, r.ID)
			}
			require.Empty(t, e.traces(t, r, home), "%s, %s", m, first)
		}
	}
}
