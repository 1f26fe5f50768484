package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

const (
	benchLength    = 5 * time.Second
	benchRoundTrip = 500 * time.Microsecond // about what lies between two data centres of one city
)

// benchFlags are what bench was asked.
type benchFlags struct {
	local   bool
	modes   []string
	tenants []string
	sql     string
	rawSQL  string
	args    []string
	length  time.Duration
	delay   time.Duration
}

func newBenchCmd(a *app) *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Time the router against plain pgx, on your servers or on local ones",
		Long: `Time one statement, and a transaction of three, through the router and through plain pgx over the same network,
side by side: every way has its turn in every round, so that what disturbs the machine disturbs all of them.
The plain side uses the operator's login, which row-level security does not hold up, on a connection of its
own, by the cluster's endpoint. Where the endpoint leads to a pooler, such as PgBouncer, only the router goes
through it: the plain side takes the operator's own way, to the server, and the result says so.
"Four calls" is what the router replaces: begin, set_config, the statement, commit.

By default the statement touches no table, and the tenants are the first active one of each model. Your own
statement must only read. In a shared home the operator sees the rows of all tenants: give the plain side
with --raw-sql the filter that a careful application would write; its $1 is the tenant's id.

With --local it needs no installation: it starts local servers in each mode, with 100,000 rows of 200 tenants
in a shared table, and takes them away again. If PgBouncer is on the machine (PATH, /usr/sbin or
LANDLORD_PGBOUNCER), both sides are timed through it too. The result is Markdown, or JSON.`,
		Example: `  landlord bench --local
  landlord bench --tenant acme --sql 'select * from orders where id = $1' --arg 7 \
      --raw-sql 'select * from orders where tenant_id = $1 and id = $2'
  landlord bench --delay 2ms --for 30s --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.local && !cmd.Flags().Changed("delay") {
				f.delay = benchRoundTrip
			}
			if err := f.check(); err != nil {
				return usageError("%w", err)
			}
			if f.local {
				return a.benchLocal(cmd.Context(), f)
			}
			return a.bench(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.local, "local", false, "start local servers with sample data instead of using the configuration's")
	flags.StringSliceVar(&f.modes, "mode", nil, "with --local: `modes` of isolation to time (default sealed,sealed-mac,locked,plain)")
	flags.StringArrayVar(&f.tenants, "tenant", nil, "`slug` of a tenant to time; may be repeated")
	flags.StringVar(&f.sql, "sql", "", "`statement` to time instead of one that touches no table")
	flags.StringVar(&f.rawSQL, "raw-sql", "", "what the plain side runs instead: the `statement` with a filter by tenant")
	flags.StringArrayVar(&f.args, "arg", nil, "`value` of the statement's next parameter; may be repeated")
	flags.DurationVar(&f.length, "for", benchLength, "`time` for each tenant and network")
	flags.DurationVar(&f.delay, "delay", 0, "also time with this much `time` added to a round trip (with --local: 500µs)")
	return cmd
}

// readOnly finds statements that may be timed. What they call or contain may write all the same: PostgreSQL refuses that.
var readOnly = regexp.MustCompile(`(?i)^\s*(select|with|values|table)\b`)

func (f benchFlags) check() error {
	for _, m := range f.modes {
		if _, err := isolation.ParseMode(m); err != nil {
			return err
		}
	}
	for _, sql := range []string{f.sql, f.rawSQL} {
		if sql != "" && !readOnly.MatchString(sql) {
			return errors.New("only a statement that reads is timed: it begins with select, with, values or table")
		}
	}
	switch {
	case f.local && (len(f.tenants) > 0 || f.sql != "" || f.rawSQL != "" || len(f.args) > 0):
		return errors.New("--local has tenants and statements of its own: leave out --tenant, --sql, --raw-sql and --arg")
	case !f.local && len(f.modes) > 0:
		return errors.New("the mode of an installation is what it is: --mode goes with --local")
	case f.sql == "" && (f.rawSQL != "" || len(f.args) > 0):
		return errors.New("--raw-sql and --arg belong to a statement: give it by --sql")
	case f.length <= 0:
		return errors.New("--for must be above 0")
	case f.delay < 0:
		return errors.New("--delay must not be below 0")
	}
	return nil
}

// bench times tenants of the configured installation.
func (a *app) bench(ctx context.Context, f benchFlags) (err error) {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	keys, err := readKeys(h.config.Keys)
	if err != nil {
		return err
	}
	tenants, err := h.benchTenants(ctx, f.tenants)
	if err != nil {
		return err
	}
	nets := benchNets(f.delay)
	defer func() { err = errors.Join(err, nets.close()) }()
	report := newBenchReport(f.length)
	for _, t := range tenants {
		s, err := h.benchSubject(ctx, t, keys)
		if err != nil {
			return err
		}
		s.readOnly = true
		s.statement(f.sql, f.rawSQL, f.args)
		if err := s.findPooler(ctx); err != nil {
			return fmt.Errorf("bench tenant %s: %w", t.Slug, err)
		}
		if err := s.tryReadOnly(ctx); err != nil {
			return fmt.Errorf("bench tenant %s: %w", t.Slug, err)
		}
		for _, n := range nets {
			a.progress("tenant %s, model %s, network %s", t.Slug, t.Model, n.name)
			section, err := s.time(ctx, n, f.length)
			if err != nil {
				return fmt.Errorf("bench tenant %s: %w", t.Slug, err)
			}
			report.Sections = append(report.Sections, section)
		}
	}
	return a.show(report, report.write)
}

// benchTenants looks up the tenants of these slugs, or the first active one of each model.
func (h *house) benchTenants(ctx context.Context, slugs []string) ([]placement.Tenant, error) {
	var tenants []placement.Tenant
	for _, s := range slugs {
		slug, err := tenant.ParseSlug(s)
		if err != nil {
			return nil, usageError("%w", err)
		}
		t, err := h.tenant(ctx, whose{slug: slug})
		if err != nil {
			return nil, err
		}
		if t.State != placement.StateActive {
			return nil, fmt.Errorf("bench tenant %s: it is %s: only an active tenant can be timed", t.Slug, t.State)
		}
		tenants = append(tenants, t)
	}
	if len(tenants) > 0 {
		return tenants, nil
	}
	for _, m := range []placement.Model{placement.ModelShared, placement.ModelSchema, placement.ModelDatabase} {
		found, err := h.catalog.Tenants(ctx, placement.Filter{State: placement.StateActive, Model: m, Limit: 1})
		if err != nil {
			return nil, err
		}
		tenants = append(tenants, found...)
	}
	if len(tenants) == 0 {
		return nil, errors.New("bench: no tenant is active: add one with 'landlord tenant add', or use --local")
	}
	return tenants, nil
}

// benchSubject finds out how a tenant's home is reached.
func (h *house) benchSubject(ctx context.Context, t placement.Tenant, keys isolation.Keyring) (*benchSubject, error) {
	route, err := h.catalog.Route(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	return &benchSubject{route: route, router: router.Config{Catalog: h.catalog, Keys: keys, AppName: "landlord bench"}}, nil
}

// statement sets what is timed.
func (s *benchSubject) statement(sql, rawSQL string, args []string) {
	s.sql = sql
	if sql == "" {
		s.sql, args = "select $1::int", []string{"1"}
	}
	for _, v := range args {
		s.args = append(s.args, v)
	}
	s.rawSQL, s.rawArgs = s.sql, s.args
	if rawSQL != "" {
		s.rawSQL, s.rawArgs = rawSQL, append([]any{s.route.Tenant.String()}, s.args...)
	}
}

// tryReadOnly runs what is timed once, where PostgreSQL refuses to write: a single statement through the router is in a
// transaction that may.
func (s *benchSubject) tryReadOnly(ctx context.Context) error {
	err := s.tryBoth(ctx)
	if pgerr.Is(err, pgerr.ReadOnlyTransaction) {
		return fmt.Errorf("only a statement that reads is timed: %w", err)
	}
	return err
}

func (s *benchSubject) tryBoth(ctx context.Context) error {
	r, err := router.New(s.router)
	if err != nil {
		return err
	}
	defer r.Close()
	err = r.Tenant(s.route.Tenant).TxWith(ctx, router.TxOptions{ReadOnly: true}, func(ctx context.Context, tx *router.Tx) error {
		return drain(tx.Query(ctx, s.sql, s.args...))
	})
	if err != nil {
		return err
	}
	cfg, err := s.rawConfig(nil)
	if err != nil {
		return err
	}
	return with(ctx, cfg, func(conn *pgx.Conn) error {
		return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			return drain(tx.Query(ctx, s.rawSQL, s.rawArgs...))
		})
	})
}
