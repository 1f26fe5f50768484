package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/placement"
)

// BaselineOptions say what to take over.
type BaselineOptions struct {
	Table   string   // of goose, in each home's schema; empty: migrate.GooseTable
	Tenants []string // only their homes, by slug; empty: all
	DryRun  bool     // only look
}

// Taken is what has become of one home.
type Taken struct {
	Home   placement.Home
	Tenant string // empty: a shared one
	migrate.Takeover
	Err error
}

// Baseline takes all homes over that goose has migrated so far (see [migrate.Set.Baseline]), as the operator. What keeps one from
// being taken over is that one's result, and keeps no other. Locks that stand in the way are waited for as long as in a run.
// Results are ordered by home. The error means that the catalog could not be read, or that ctx has ended.
func (f *Fleet) Baseline(ctx context.Context, o BaselineOptions) ([]Taken, error) {
	all, err := f.targets(ctx)
	if err != nil {
		return nil, err
	}
	only, err := f.homesOf(ctx, o.Tenants)
	if err != nil {
		return nil, err
	}
	reach, err := f.reach(ctx)
	if err != nil {
		return nil, err
	}
	byPlace := make(map[place][]target)
	for _, t := range all {
		if t.Scope == string(migrate.ScopeTenant) && (len(only) == 0 || only[t.Home]) {
			at := place{t.Home.Cluster, t.Home.Database}
			byPlace[at] = append(byPlace[at], t)
		}
	}
	var g errgroup.Group
	g.SetLimit(f.cfg.Workers)
	var mu sync.Mutex // guards results
	var results []Taken
	for at, targets := range byPlace {
		g.Go(func() error {
			taken := f.takeOver(ctx, reach, at, targets, o)
			mu.Lock()
			defer mu.Unlock()
			results = append(results, taken...)
			return nil
		})
	}
	_ = g.Wait() // there are no errors but those of results
	slices.SortFunc(results, func(a, b Taken) int { return strings.Compare(a.Home.String(), b.Home.String()) })
	return results, ctx.Err()
}

// takeOver takes over the homes of one database, one after the other.
func (f *Fleet) takeOver(ctx context.Context, reach reach, at place, targets []target, o BaselineOptions) []Taken {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = closeConn(ctx, conn) // nothing is open on it
		}
	}()
	// To be made NOT NULL, a tenant_id that is not so yet is read whole: that takes what it takes.
	b := migrate.Baseline{
		Table: o.Table, Server: reach.clusters[at.cluster].SharedDatabase == at.database,
		Limits: migrate.Limits{Lock: f.cfg.Limits.Lock}, DryRun: o.DryRun,
	}
	results := make([]Taken, len(targets))
	for i, t := range targets {
		out := &results[i]
		out.Home, out.Tenant = t.Home, t.Tenant
		if out.Err = ctx.Err(); out.Err != nil {
			continue
		}
		if conn == nil || conn.IsClosed() {
			// The operator's login: tables belong to whoever has made them.
			if conn, out.Err = reach.connect(ctx, at, migrate.ScopeDatabase); out.Err != nil {
				conn = nil
				continue
			}
		}
		home := migrate.Target{Scope: migrate.ScopeTenant, Schema: t.Home.Schema, Tenant: t.Tenant}
		out.Takeover, out.Err = f.insist(ctx, conn, home, b)
	}
	return results
}

// insist tries again while locks stand in the way.
func (f *Fleet) insist(ctx context.Context, conn *pgx.Conn, home migrate.Target, b migrate.Baseline) (migrate.Takeover, error) {
	const first, most = 50 * time.Millisecond, time.Second
	for deadline, wait := time.Now().Add(f.cfg.Retry), first; ; wait = min(2*wait, most) {
		out, err := f.cfg.Set.Baseline(ctx, conn, home, b)
		if err == nil || migrate.Judge(err) != migrate.Again || conn.IsClosed() || time.Now().After(deadline) || !pause(ctx, rand.N(wait)) {
			return out, err
		}
	}
}

// noteGoose notes homes, of those named or of all, that goose has made and of which nothing is on record: to apply the files
// there would fail on the first table.
func noteGoose(ctx context.Context, conn *pgx.Conn, found histories, places []string) error {
	const query = `
select n.nspname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relname = $1 and ($2::text[] is null or n.nspname = any($2::name[]))
   and not exists (select from landlord.schema_version v where v.schema = n.nspname)`
	var missing []string
	for _, p := range places {
		if found[p] == nil {
			missing = append(missing, p)
		}
	}
	if places != nil && missing == nil {
		return nil
	}
	rows, err := conn.Query(ctx, query, migrate.GooseTable, missing)
	if err != nil {
		return fmt.Errorf("look for goose's tables: %w", err)
	}
	schemas, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for goose's tables: %w", err)
	}
	for _, s := range schemas {
		found[s] = &history{judged: map[migrate.Scope]judgement{migrate.ScopeTenant: {err: migrate.ErrGoose}}}
	}
	return nil
}
