package placement

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrInstances reports that versions cannot be undone because instances of the application need them.
var ErrInstances = errors.New("instances of the application need what would be undone")

// CheckDown is [ErrInstances] while instances of the application are on record that were written for a version above to, or that do
// not say for which. One that has fallen silent counts: it may be cut off from the catalog only, and still at work.
func (c *Catalog) CheckDown(ctx context.Context, to int64) error {
	return c.read(ctx, "look for instances of the application", func(ctx context.Context, q querier) error {
		return checkDown(ctx, q, to)
	})
}

func checkDown(ctx context.Context, q querier, to int64) error {
	const query = `select name, schema_version, seen_at from landlord.instances where schema_version > $1 or schema_version = 0
order by seen_at desc, name`
	rows, err := q.Query(ctx, query, to)
	if err != nil {
		return err
	}
	var name string
	var version int64
	var seen time.Time
	var all []string
	if _, err := pgx.ForEachRow(rows, []any{&name, &version, &seen}, func() error {
		need := fmt.Sprintf("needs version %d", version)
		if version == 0 {
			need = "does not say which version it needs"
		}
		all = append(all, fmt.Sprintf("%s %s (last seen %s)", name, need, seen.UTC().Format(time.RFC3339)))
		return nil
	}); err != nil || len(all) == 0 {
		return err
	}
	const most = 5
	if n := len(all); n > most {
		all = append(all[:most], fmt.Sprintf("and %d more", n-most))
	}
	return fmt.Errorf("%w: %s: let those of the older version take their place first", ErrInstances, strings.Join(all, "; "))
}

// In a run down, what stands for a database or server keeps its versions as long as a home there keeps its own: that may be built
// on it. stillNeeded tells it of target t, and blockedDown is what follows in AdvanceRun.
const (
	needs = `
(t.scope = 'server' and b.scope <> 'server' or t.scope = 'database' and b.scope = 'tenant' and b.database = t.database)
and b.run = t.run and b.cluster = t.cluster
and (b.state <> 'skipped' or b.tenant is null or exists (select from landlord.placements p
       where p.tenant = b.tenant and (p.cluster, p.database, p.schema) = (b.cluster, b.database, b.place)))`
	stillNeeded = `(t.scope <> 'tenant' and exists (select from landlord.run_targets b where b.state <> 'verified' and ` + needs + `))`
	blockedDown = `
update landlord.run_targets t set state = 'failed', blameless = true, error = 'not tried: ' || b.scope || ' files are not undone'
  from landlord.run_targets b
 where t.run = $1 and t.state = 'pending' and b.state in ('failed', 'skipped') and ` + needs + `
   and exists (select from landlord.runs where id = $1 and down)`
)
