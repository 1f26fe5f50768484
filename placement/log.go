package placement

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/tenant"
)

// Kind says what happened to a placement.
type Kind string

// The kinds, and what Before and After hold.
const (
	KindPlaced   Kind = "placed"   // After: home
	KindState    Kind = "state"    // Before, After: states
	KindMoved    Kind = "moved"    // Before, After: homes
	KindRemoved  Kind = "removed"  // Before: home
	KindRebuilt  Kind = "rebuilt"  // Before, After: home, epoch and state
	KindCluster  Kind = "cluster"  // Before, After: what decides about new tenants; routes stay good
	KindEndpoint Kind = "endpoint" // Before, After: how a cluster is reached
	KindDatabase Kind = "database" // Before: name; After: what is inside, "" when it is gone
)

// LogEntry is a row of the placement log. Rows are never changed.
type LogEntry struct {
	Seq     int64 // without gaps, in the order of commits
	At      time.Time
	Actor   string
	Kind    Kind
	Tenant  tenant.ID // zero: it concerns a cluster or a shared database
	Slug    tenant.Slug
	Cluster string
	Epoch   int64
	Before  string
	After   string
}

// log appends to the log. A trigger numbers and dates the entry, and notifies.
func (c *Catalog) log(ctx context.Context, tx pgx.Tx, e LogEntry) error {
	const insert = `
insert into landlord.placement_log (actor, kind, tenant, slug, cluster, epoch, before, after)
values ($1, $2, nullif($3, ''), nullif($4, ''), $5, nullif($6, 0), nullif($7, ''), nullif($8, ''))`
	_, err := tx.Exec(ctx, insert, c.cfg.Actor, e.Kind, e.Tenant.String(), e.Slug, e.Cluster, e.Epoch, e.Before, e.After)
	return err
}

// LogFilter chooses entries. A zero field chooses all.
type LogFilter struct {
	Tenant tenant.ID
	Slug   tenant.Slug // also of tenants that are gone
	After  int64       // the last Seq of the page before
	Limit  int         // page size; 0: no limit
}

// Log returns the chosen entries, oldest first.
func (c *Catalog) Log(ctx context.Context, f LogFilter) (entries []LogEntry, err error) {
	const query = `
select seq, at, actor, kind, coalesce(tenant, ''), coalesce(slug, ''), cluster, coalesce(epoch, 0), coalesce(before, ''), coalesce(after, '')
from landlord.placement_log
where ($1 = '' or tenant = $1) and ($2 = '' or slug = $2) and seq > $3
order by seq limit nullif($4, 0)`
	err = c.read(ctx, "read placement log", func(ctx context.Context, q querier) error {
		rows, err := q.Query(ctx, query, f.Tenant.String(), f.Slug, f.After, f.Limit)
		if err != nil {
			return err
		}
		entries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e LogEntry, err error) {
			var id string
			if err := row.Scan(&e.Seq, &e.At, &e.Actor, &e.Kind, &id, &e.Slug, &e.Cluster, &e.Epoch, &e.Before, &e.After); err != nil {
				return e, err
			}
			if id != "" {
				e.Tenant, err = c.parseID(id)
			}
			return e, err
		})
		return err
	})
	return entries, err
}

// MovedSince returns the ids of the tenants whose placement has been given another home since a moment.
func (c *Catalog) MovedSince(ctx context.Context, since time.Time) (ids map[string]bool, err error) {
	const query = `select distinct tenant from landlord.placement_log where kind in ('moved', 'rebuilt') and tenant is not null and at >= $1`
	err = c.read(ctx, "list who has moved", func(ctx context.Context, q querier) error {
		rows, err := q.Query(ctx, query, since)
		if err != nil {
			return err
		}
		ids = make(map[string]bool)
		var id string
		_, err = pgx.ForEachRow(rows, []any{&id}, func() error { ids[id] = true; return nil })
		return err
	})
	return ids, err
}
