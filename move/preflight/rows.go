package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/move/table"
	"github.com/landlord-go/landlord/placement"
)

// referenceLimit bounds the reading of one reference table.
const referenceLimit = 30 * time.Second

// references compares the rows of the reference tables.
func (c *checker) references(ctx context.Context, _ *side) error {
	for _, a := range c.source.tables {
		i := slices.IndexFunc(c.target.tables, func(b table.Table) bool { return b.Name == a.Name && b.Class == table.Reference })
		if a.Class != table.Reference || i < 0 {
			continue
		}
		b := c.target.tables[i]
		var columns []string
		for _, col := range a.Columns {
			if _, ok := b.Column(col.Name); ok {
				columns = append(columns, col.Name)
			}
		}
		source, err := sum(ctx, c.source, a, columns)
		if err != nil {
			return fmt.Errorf("table %s at the source: %w", a.Name, err)
		}
		target, err := sum(ctx, c.target, b, columns)
		if err != nil {
			return fmt.Errorf("table %s at the target: %w", a.Name, err)
		}
		if source != target {
			c.problem(ReferenceRows, a.Name, fmt.Sprintf("the reference table has other rows in home %s (%s)", c.target.home, target.than(source)),
				"bring both to the same rows, by a migration")
		}
	}
	return nil
}

// content is what a table holds, without holding it.
type content struct {
	rows int64
	hash string
}

func (a content) than(b content) string {
	if a.rows != b.rows {
		return fmt.Sprintf("%d, and the source %d", a.rows, b.rows)
	}
	return "as many, but not the same"
}

func sum(ctx context.Context, s *side, t table.Table, columns []string) (v content, err error) {
	q := fmt.Sprintf(`select count(*), coalesce(sum(hashtextextended(row(%s)::text, 0)::numeric), 0)::text from %s`, table.Quoted(columns, ""), t.From())
	err = within(ctx, s, referenceLimit, func(tx pgx.Tx) error { return tx.QueryRow(ctx, q).Scan(&v.rows, &v.hash) })
	return v, err
}

const (
	collisionLimit = 30 * time.Second // for one key
	collisionBatch = 5000
	collisionsTold = 5
)

// collisions looks for values of unique keys that are the tenant's at the source and another tenant's at a shared target, where
// the key leaves tenant_id out.
func (c *checker) collisions(ctx context.Context, s *side) error {
	if s.model != placement.ModelShared {
		return nil
	}
	for _, p := range c.pairs {
		for _, k := range p.Target.Keys {
			if k.Exclusion || slices.Contains(k.Columns, table.TenantID) {
				continue
			}
			if err := c.collide(ctx, p, k); err != nil {
				return fmt.Errorf("key %s of %s: %w", k.Name, p.Target.Name, err)
			}
		}
	}
	return nil
}

func (c *checker) collide(ctx context.Context, p table.Pair, k table.Key) error {
	object := p.Target.Name + "." + k.Name
	found, err := c.search(ctx, p, k)
	switch {
	case pgerr.Is(err, pgerr.QueryCanceled) && ctx.Err() == nil:
		c.problem(KeyCollision, object, fmt.Sprintf("the unique key leaves tenant_id out, and in %s it could not be shown that no other tenant has the tenant's values", collisionLimit),
			"make tenant_id part of the key")
	case err != nil:
		return err
	case len(found) > 0:
		c.problem(KeyCollision, object, "the unique key leaves tenant_id out, and other tenants have values of the tenant's: "+strings.Join(found, ", "),
			"make tenant_id part of the key, or change the values")
	default:
		c.warn(GlobalKey, object, "the unique key leaves tenant_id out: a value that the tenant writes during the move may be another tenant's by then",
			"make tenant_id part of the key")
	}
	return nil
}

// search sends the tenant's values in batches and returns some of those that other tenants have at the target.
func (c *checker) search(ctx context.Context, p table.Pair, k table.Key) (found []string, err error) {
	texts, nulls := make([]string, len(k.Terms)), make([]string, len(k.Terms))
	for i, term := range k.Terms {
		texts[i], nulls[i] = "("+term+")::text", "("+term+") is not null"
	}
	where := p.Source.Whose(c.Tenant.ID.String())
	if k.Predicate != "" {
		where += " and (" + k.Predicate + ")"
	}
	if !k.NullsEqual {
		where += " and " + strings.Join(nulls, " and ")
	}
	list := fmt.Sprintf("select array[%s] from %s where %s", strings.Join(texts, ", "), p.Source.From(), where)
	err = within(ctx, c.source, collisionLimit, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, list)
		if err != nil {
			return err
		}
		var batch [][]*string
		var value []*string
		flush := func() error {
			more, err := c.taken(ctx, p, k, batch)
			found, batch = append(found, more...), nil
			if err == nil && len(found) >= collisionsTold {
				err = errStop
			}
			return err
		}
		_, err = pgx.ForEachRow(rows, []any{&value}, func() error {
			if batch = append(batch, value); len(batch) < collisionBatch {
				return nil
			}
			return flush()
		})
		if err == nil && len(batch) > 0 {
			err = flush()
		}
		return err
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return found[:min(len(found), collisionsTold)], err
}

// taken returns those of values that other tenants have at the target. Columns are compared as their type does, so that the key's index
// is used; expressions by their text.
func (c *checker) taken(ctx context.Context, p table.Pair, k table.Key, values [][]*string) (found []string, err error) {
	var names, unnested, on []string
	var args []any
	for i, term := range k.Terms {
		one := make([]*string, len(values))
		for n, v := range values {
			one[n] = v[i]
		}
		name := fmt.Sprintf("k%d", i)
		cast, compared := "text", "("+term+")::text"
		if col, ok := p.Target.Column(strings.Trim(term, `"`)); ok && slices.Contains(k.Columns, col.Name) {
			cast, compared = col.Cast, "t."+table.Quoted([]string{col.Name}, "")
		}
		same := compared + " = " + name + "::" + cast
		if k.NullsEqual {
			same = compared + " is not distinct from " + name + "::" + cast
		}
		args, names, on = append(args, one), append(names, name), append(on, same)
		unnested = append(unnested, fmt.Sprintf("$%d::text[]", i+1))
	}
	where := "t.tenant_id <> " + p.Target.Tenant(c.Tenant.ID.String())
	if k.Predicate != "" {
		where += " and (" + k.Predicate + ")"
	}
	q := fmt.Sprintf(`select row(%s)::text from unnest(%s) as k (%s) join %s t on %s where %s limit %d`,
		strings.Join(names, ", "), strings.Join(unnested, ", "), strings.Join(names, ", "), p.Target.SQL(), strings.Join(on, " and "), where, collisionsTold)
	err = within(ctx, c.target, collisionLimit, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, q, args...)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return found, err
}
