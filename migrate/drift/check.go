package drift

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fingerprint"
	"github.com/landlord-go/landlord/placement"
)

// checker looks at the homes of one cluster.
type checker struct {
	cfg     Config
	cluster placement.Cluster
	files   []migrate.Migration // those that homes are made from

	mu    sync.Mutex // guards known
	known map[drifted][]fingerprint.Difference
}

// drifted are homes that differ from what is expected in the same way.
type drifted struct {
	built build
	sum   fingerprint.Fingerprint
}

// seen is a home that was looked at, before it is known what to expect.
type seen struct {
	*Result
	files []fingerprint.Difference // between the files that were applied and those there are
	sum   fingerprint.Fingerprint
}

func (s seen) build() build { return build{shared: s.Tenant.IsZero(), version: s.Version} }

// check fills in the results. A first look takes the fingerprints of all, a second one the objects of those that are not as expected.
func (c *checker) check(ctx context.Context, results []*Result) {
	c.known = make(map[drifted][]fingerprint.Difference)
	var mu sync.Mutex // guards looked and builds
	looked := make(map[page][]seen)
	builds := make(map[build]expectation)
	together(pages(results, min(max(len(results)/pagesAtOnce, leastPage), pageSize)), func(p page, here []*Result) {
		c.cfg.Progress("looking at %d homes in %s/%s", len(here), c.cluster.Name, p.database)
		found, err := c.look(ctx, p.database, here)
		for _, r := range here {
			if err != nil {
				r.Reason = err.Error()
			}
		}
		mu.Lock()
		defer mu.Unlock()
		for _, s := range found {
			builds[s.build()] = expectation{}
			looked[p] = append(looked[p], s)
		}
	})
	if len(builds) == 0 || ctx.Err() != nil {
		return
	}
	c.cfg.Progress("building what homes of cluster %s should be", c.cluster.Name)
	if err := c.build(ctx, builds); err != nil {
		for _, here := range looked {
			for _, s := range here {
				s.Reason = err.Error()
			}
		}
		return
	}
	together(looked, func(p page, here []seen) { c.judge(ctx, p.database, here, builds) })
}

// page is some of the homes of a database. Reading is work for the server's processor, so those of a large database are read on several
// connections; and PostgreSQL's process grows by some 8 MB per thousand schemas that it has seen.
type page struct {
	database string
	number   int
}

const (
	pageSize  = 1000
	leastPage = 100 // what a connection of its own is worth
)

// pages divides homes into pages of so many.
func pages(results []*Result, size int) map[page][]*Result {
	byDatabase := make(map[string][]*Result)
	for _, r := range results {
		byDatabase[r.Home.Database] = append(byDatabase[r.Home.Database], r)
	}
	all := make(map[page][]*Result)
	for database, here := range byDatabase {
		n := 0
		for part := range slices.Chunk(here, size) {
			all[page{database, n}] = part
			n++
		}
	}
	return all
}

// together runs fn for a few pages at a time.
func together[T any](all map[page][]T, fn func(p page, here []T)) {
	var g errgroup.Group
	g.SetLimit(pagesAtOnce)
	for p, here := range all {
		g.Go(func() error {
			fn(p, here)
			return nil
		})
	}
	_ = g.Wait() // fn has no errors
}

// look takes versions and fingerprints of homes in a database. It returns those that there is something to expect of.
func (c *checker) look(ctx context.Context, database string, results []*Result) (found []seen, err error) {
	err = c.asOperator(ctx, database, func(conn *pgx.Conn) error {
		return snapshot(ctx, conn, func(tx pgx.Tx) error {
			homes, schemas := make([]fingerprint.Home, len(results)), make([]string, len(results))
			for i, r := range results {
				homes[i] = fingerprint.Home{Schema: r.Home.Schema, Tenant: r.owner()}
				schemas[i] = r.Home.Schema
			}
			applied, err := versions(ctx, tx, schemas)
			if err != nil {
				return err
			}
			sums, busy, err := fingerprint.Read(ctx, tx, homes)
			if err != nil {
				return err
			}
			for _, r := range results {
				sum, ok := sums[r.Home.Schema]
				switch {
				case slices.Contains(busy, r.Home.Schema):
					r.Reason = fingerprint.ErrBusy.Error()
					continue
				case !ok:
					r.Reason = fingerprint.ErrNoSchema.Error()
					continue
				}
				s := seen{Result: r, sum: sum}
				if s.compareFiles(c.files, applied[r.Home.Schema]) {
					found = append(found, s)
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// versions reads what is applied in schemas, in ascending order of version.
func versions(ctx context.Context, tx pgx.Tx, schemas []string) (map[string][]migrate.Applied, error) {
	const q = `select schema::text, version, checksum from landlord.schema_version where schema = any($1::text[]) order by schema, version`
	rows, err := tx.Query(ctx, q, pgx.QueryExecModeExec, schemas)
	if err != nil {
		return nil, fmt.Errorf("read applied versions: %w", err)
	}
	applied := make(map[string][]migrate.Applied, len(schemas))
	var schema string
	var a migrate.Applied
	_, err = pgx.ForEachRow(rows, []any{&schema, &a.Version, &a.Checksum}, func() error {
		applied[schema] = append(applied[schema], a)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read applied versions: %w", err)
	}
	return applied, nil
}

// compareFiles notes how what is applied differs from the files. It is false when the files do not know all of it.
func (s *seen) compareFiles(files []migrate.Migration, applied []migrate.Applied) bool {
	if len(applied) > 0 {
		s.Version = applied[len(applied)-1].Version
	}
	byVersion := make(map[int64]string, len(applied))
	for _, a := range applied {
		byVersion[a.Version] = a.Checksum
		if !slices.ContainsFunc(files, func(m migrate.Migration) bool { return m.Version == a.Version }) {
			s.State, s.Reason = Ahead, fmt.Sprintf("version %d is applied there, and the files know no such version", a.Version)
			return false
		}
	}
	for _, m := range files {
		if m.Version > s.Version {
			break
		}
		d := fingerprint.Difference{Kind: "migration", Object: m.File, Expected: m.Checksum, Found: byVersion[m.Version]}
		switch d.Found {
		case m.Checksum:
			continue
		case "":
			d.Change = fingerprint.Missing
		default:
			d.Change = fingerprint.Different
		}
		s.files = append(s.files, d)
	}
	return true
}

// judge compares homes of a database with what is expected, and looks at the objects of those that differ in a way not known yet.
func (c *checker) judge(ctx context.Context, database string, here []seen, builds map[build]expectation) {
	var closer []seen
	for _, s := range here {
		switch want := builds[s.build()]; {
		case s.sum != want.sum:
			closer = append(closer, s)
		default:
			c.conclude(s, nil)
		}
	}
	if len(closer) == 0 {
		return
	}
	err := c.asOperator(ctx, database, func(conn *pgx.Conn) error {
		for _, s := range closer {
			if err := c.lookCloser(ctx, conn, s, builds[s.build()]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		for _, s := range closer {
			if s.State == Unknown {
				s.Reason = err.Error()
			}
		}
	}
}

// lookCloser finds the objects that differ.
func (c *checker) lookCloser(ctx context.Context, conn *pgx.Conn, s seen, want expectation) error {
	way := drifted{s.build(), s.sum}
	c.mu.Lock()
	differences, ok := c.known[way]
	c.mu.Unlock()
	if ok {
		c.conclude(s, differences)
		return nil
	}
	objects, err := fingerprint.Objects(ctx, conn, fingerprint.Home{Schema: s.Home.Schema, Tenant: s.owner()})
	if errors.Is(err, fingerprint.ErrBusy) {
		s.Reason = fingerprint.ErrBusy.Error()
		return nil
	}
	if err != nil && !errors.Is(err, fingerprint.ErrNoSchema) {
		return err
	}
	if fingerprint.Of(objects) != s.sum {
		// A migration was at work, or somebody who is quicker than this.
		s.Reason = "it was changed while it was looked at: look again"
		return nil
	}
	differences = fingerprint.Compare(want.objects, objects)
	c.mu.Lock()
	c.known[way] = differences
	c.mu.Unlock()
	c.conclude(s, differences)
	return nil
}

// conclude gives a home its state.
func (c *checker) conclude(s seen, differences []fingerprint.Difference) {
	s.Reason = ""
	s.Differences = slices.Concat(s.files, differences)
	switch {
	case len(s.Differences) > 0:
		s.State = Drifted
	case len(c.files) > 0 && s.Version < c.files[len(c.files)-1].Version:
		s.State = Behind
	default:
		s.State = InSync
	}
}
