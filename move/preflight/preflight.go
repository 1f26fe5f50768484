// Package preflight says beforehand what would keep a tenant from being moved, and how long its copy may take.
//
// It guarantees that nothing is changed, not even for a moment: every session is read-only. It reports all problems at once, each with
// what to do about it, and what it could not find out it says too. What is true when it looks may be false a moment later, so whoever
// moves the tenant checks again what must not be wrong.
//
// A home that is not made yet is judged by another one: the shared home of the cluster where it will be made, which was built from the
// same files. That both have the same versions is checked like everything else.
package preflight

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/move/table"
	"github.com/landlord-go/landlord/placement"
)

// Config of a check. Catalog, Tenant and Model are required.
type Config struct {
	Catalog *placement.Catalog
	Tenant  placement.Tenant
	Model   placement.Model // where to
	Cluster string          // where to; "": the one where the tenant lives
	Limit   int             // of moves on each cluster, as in [placement.MoveRequest]; default: 4

	Offline bool  // the tenant is closed for the whole of its copy: the servers need no logical WAL, and there is no way back
	MaxWAL  int64 // bytes that the move's slots may hold back; default: [placement.DefaultMaxWAL]
	MaxRate int64 // bytes that are copied in a second at most; 0: as many as can be
	// AllowAsync accepts standbys that may lose the last commits when they are promoted.
	AllowAsync bool
	Old        time.Duration // a writing transaction that is open for longer is worth a warning; default: 5 minutes
}

// Report is what was found.
type Report struct {
	Source   placement.Place `json:"-"`
	Target   placement.Place `json:"-"` // without the names of a schema or database that is not made yet
	Problems []table.Problem `json:"problems"`
	Warnings []table.Problem `json:"warnings"` // do not keep the tenant from being moved
	Unknown  []string        `json:"unknown"`  // what could not be found out, and matters
	Estimate Estimate        `json:"estimate"`
}

// OK tells that nothing is known to keep the tenant from being moved.
func (r Report) OK() bool { return len(r.Problems) == 0 }

// side is one end of the move as far as it is known.
type side struct {
	name    string // "source", "target"
	model   placement.Model
	home    placement.Home // to look at: the target's own, or the one it is judged by
	made    bool           // home is the tenant's, or the shared one that it will be in
	cluster placement.Cluster
	conn    *pgx.Conn
	server  server
	tables  []table.Table
}

// object names something of a side.
func (s *side) object(what string) string { return "cluster " + s.cluster.Name + ": " + what }

type checker struct {
	Config
	report         Report
	source, target *side
	pairs          []table.Pair
}

// Check looks at everything and returns what it has found. An error says that it could not look: the catalog does not answer, or ctx
// has ended. A cluster that does not answer is a problem like others.
func Check(ctx context.Context, cfg Config) (Report, error) {
	c := &checker{Config: cfg, report: Report{Problems: []table.Problem{}, Warnings: []table.Problem{}, Unknown: []string{}}}
	c.Cluster = cmp.Or(cfg.Cluster, cfg.Tenant.Home.Cluster)
	c.Limit, c.MaxWAL = cmp.Or(cfg.Limit, 4), cmp.Or(cfg.MaxWAL, placement.DefaultMaxWAL)
	c.Old = cmp.Or(cfg.Old, 5*time.Minute)
	err := c.run(ctx)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return c.report, fmt.Errorf("look at what a move of tenant %s would meet: %w", cfg.Tenant.Slug, err)
	}
	return c.report, nil
}

func (c *checker) run(ctx context.Context) error {
	if err := c.catalog(ctx); err != nil {
		return err
	}
	if c.source == nil || c.target == nil {
		return nil
	}
	for _, s := range []*side{c.source, c.target} {
		conn, err := connect(ctx, s)
		if err != nil {
			c.problem(Unreachable, s.object("database "+s.home.Database), err.Error(), "see that the operator's connection string leads there")
			continue
		}
		defer closeConn(ctx, conn)
		s.conn = conn
	}
	for _, s := range []*side{c.source, c.target} {
		if s.conn != nil {
			c.try(ctx, s, "the server", c.settings)
			c.try(ctx, s, "the operator's privileges", c.privileges)
			c.try(ctx, s, "open transactions", c.transactions)
			c.try(ctx, s, "standbys", c.standbys)
			c.try(ctx, s, "the tables", c.inspect)
			c.try(ctx, s, "sequences", c.sequences)
			c.try(ctx, s, "migrations under way", c.steps)
		}
	}
	if c.source.conn != nil {
		c.try(ctx, c.source, "the fence", c.sourceFence)
		c.try(ctx, c.source, "large objects", c.largeObjects)
		c.try(ctx, c.source, "rows of others", c.foreignRows)
		c.try(ctx, c.source, "foreign keys that cross tenants", c.crossing)
		c.try(ctx, c.source, "how much there is to copy", c.estimate)
	}
	if c.target.conn != nil {
		c.try(ctx, c.target, "the target's home", c.targetHome)
	}
	if c.source.conn != nil && c.target.conn != nil {
		c.slots()
		c.try(ctx, c.target, "the databases", c.databases)
		c.try(ctx, c.target, "schema versions", c.versions)
		c.match()
		c.try(ctx, c.target, "reference tables", c.references)
		c.try(ctx, c.target, "unique keys across tenants", c.collisions)
	}
	c.unknown("free disk space on cluster " + c.target.cluster.Name + ", which PostgreSQL does not tell: see that there is room for 2.5 times the estimate")
	return nil
}

// try runs a check. One that fails is a problem, and the others go on.
func (c *checker) try(ctx context.Context, s *side, what string, check func(context.Context, *side) error) {
	if err := check(ctx, s); err != nil && ctx.Err() == nil {
		c.problem(Unchecked, s.object(what), "could not be checked: "+err.Error(), "put that right and look again")
	}
}

func (c *checker) problem(code table.Code, object, what, fix string) {
	c.report.Problems = addOnce(c.report.Problems, table.Problem{Code: code, Object: object, What: what, Fix: fix})
}

func (c *checker) warn(code table.Code, object, what, fix string) {
	c.report.Warnings = addOnce(c.report.Warnings, table.Problem{Code: code, Object: object, What: what, Fix: fix})
}

// addOnce leaves out what both sides would say of the same server or table.
func addOnce(list []table.Problem, p table.Problem) []table.Problem {
	if slices.Contains(list, p) {
		return list
	}
	return append(list, p)
}

func (c *checker) unknown(what string) { c.report.Unknown = append(c.report.Unknown, what) }

const connectTimeout = 10 * time.Second

// connect opens a session that cannot write and waits for nobody for long.
func connect(ctx context.Context, s *side) (*pgx.Conn, error) {
	cfg, err := s.cluster.OperatorConfig(s.home.Database)
	if err != nil {
		return nil, err
	}
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, connectTimeout)
	maps.Copy(cfg.RuntimeParams, map[string]string{
		"application_name": "landlord move", "default_transaction_read_only": "on", "row_security": "off", "search_path": "pg_catalog",
		"lock_timeout": "2s", "statement_timeout": "30s", "idle_in_transaction_session_timeout": "60s", "client_encoding": "UTF8",
		"datestyle": "ISO", "intervalstyle": "postgres", "extra_float_digits": "3", "bytea_output": "hex", "timezone": "UTC",
	})
	return pgx.ConnectConfig(ctx, cfg)
}

func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = conn.Close(ctx) // nothing was written
}

// within runs fn in a read-only transaction whose statements have a time limit and find the home's own types and functions.
func within(ctx context.Context, s *side, limit time.Duration, fn func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, s.conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		set := fmt.Sprintf("set local statement_timeout = %d; set local search_path = %s, extensions, pg_temp",
			limit.Milliseconds(), pgx.Identifier{s.home.Schema}.Sanitize())
		if _, err := tx.Conn().PgConn().Exec(ctx, set).ReadAll(); err != nil {
			return err
		}
		return fn(tx)
	})
}

// errStop ends a transaction that has found what it looked for.
var errStop = errors.New("enough")
