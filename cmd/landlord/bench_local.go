package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pairs"
	"github.com/landlord-go/landlord/internal/pglocal"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/pools"
	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

const (
	benchNeighbours = 199 // other tenants with rows in the shared table
	benchRows       = 500 // of each tenant
	benchSchemas    = 50
	benchClients    = 8 // at once, where a whole pool is timed

	// As an application writes it for the router, and with the schema, which a pooler would not keep for it, and the filter
	// that it must not forget without one.
	benchSQL    = "select name from customers where email = $1"
	benchRawSQL = "select name from %s where tenant_id = $1 and email = $2"
	benchEmail  = "customer250@example.com"
)

// benchLocal times sample tenants on local servers, in one installation per mode.
func (a *app) benchLocal(ctx context.Context, f benchFlags) error {
	if len(f.modes) == 0 {
		f.modes = []string{string(isolation.Sealed), string(isolation.SealedMAC), string(isolation.Locked), string(isolation.Plain)}
	}
	_, err := pglocal.FindBouncer()
	if err != nil {
		a.progress("the network through PgBouncer is left out: %v", err)
	}
	pooled := err == nil
	report := newBenchReport(f.length)
	for i, mode := range f.modes {
		sections, err := a.benchMode(ctx, f, isolation.Mode(mode), pooled, i == 0)
		if err != nil {
			return fmt.Errorf("bench mode %s: %w", mode, err)
		}
		report.Sections = append(report.Sections, sections...)
	}
	return a.show(report, report.write)
}

// benchMode times a tenant of each model in an installation of this mode; with pooled also through PgBouncer, and with
// schemas many schema homes too.
func (a *app) benchMode(ctx context.Context, f benchFlags, mode isolation.Mode, pooled, schemas bool) (sections []benchSection, err error) {
	d, release, err := a.claimDemoFolder(ctx)
	if err != nil {
		return nil, fmt.Errorf("make a folder for local servers: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, d.down(ctx, true), release())
	}()
	if _, err := d.up(ctx, a.progress); err != nil {
		return nil, err
	}
	local := &app{stdin: a.stdin, stdout: a.stdout, stderr: a.stderr, log: a.log, configPath: d.configFile()}
	if _, err := local.config(); err != nil {
		return nil, err
	}
	local.loaded.Mode = mode
	if err := local.runInit(ctx, &initResult{Mode: map[string]string{}, Why: map[string]string{}}); err != nil {
		return nil, err
	}
	h, err := local.houseWithKeys(ctx)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	keys, err := readKeys(h.config.Keys)
	if err != nil {
		return nil, err
	}
	nets, err := d.benchNets(ctx, f.delay, pooled)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, nets.close()) }()
	for _, model := range []placement.Model{placement.ModelShared, placement.ModelSchema, placement.ModelDatabase} {
		t, err := h.benchAdd(ctx, "bench-"+string(model), model)
		if err != nil {
			return nil, err
		}
		s, err := h.benchSubject(ctx, t, keys)
		if err != nil {
			return nil, err
		}
		s.statement(benchSQL, fmt.Sprintf(benchRawSQL, customersOf(t)), []string{benchEmail})
		for _, n := range nets {
			a.progress("mode %s, model %s, network %s", mode, model, n.name)
			section, err := s.time(ctx, n, f.length)
			if err != nil {
				return nil, err
			}
			sections = append(sections, section)
		}
	}
	if schemas {
		section, err := a.benchSchemas(ctx, h, keys, f.length)
		if err != nil {
			return nil, err
		}
		sections = append(sections, section)
	}
	return sections, nil
}

// benchNets are the networks to the local server on which the sample tenants live.
func (d devEnv) benchNets(ctx context.Context, delay time.Duration, pooled bool) (benchNetList, error) {
	nets := benchNets(delay)
	nets[0].name = "loopback"
	if !pooled {
		return nets, nil
	}
	server, err := pglocal.Open(d.server(devServers[0]))
	if err != nil {
		return nil, err
	}
	n, err := pooledNet(ctx, server.DSN())
	if err != nil {
		return nil, err
	}
	return append(nets, n), nil
}

// benchAdd brings a tenant in, with rows; a shared one among many neighbours.
func (h *house) benchAdd(ctx context.Context, slug string, model placement.Model) (t placement.Tenant, err error) {
	id, err := tenant.UUID.New()
	if err != nil {
		return t, err
	}
	p, err := h.service.Add(ctx, placement.Request{ID: id, Slug: tenant.Slug(slug), Model: model, Cluster: devServers[0]})
	if err != nil {
		return t, err
	}
	if t, err = h.catalog.Tenant(ctx, p.Tenant); err != nil {
		return t, err
	}
	neighbours := 0
	if model == placement.ModelShared {
		neighbours = benchNeighbours
	}
	customers := customersOf(t)
	fill := fmt.Sprintf(`
insert into %s (tenant_id, email, name)
select t.id, 'customer' || n || '@example.com', 'customer ' || n
  from (select $1::uuid union all select gen_random_uuid() from generate_series(1, $2)) t (id), generate_series(1, $3) n`, customers)
	err = h.atHome(ctx, t, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, fill, t.ID.String(), neighbours, benchRows); err != nil {
			return fmt.Errorf("write sample rows: %w", err)
		}
		_, err := conn.Exec(ctx, "vacuum analyze "+customers)
		return err
	})
	return t, err
}

// customersOf is the table that is timed, as somebody without a router names it.
func customersOf(t placement.Tenant) string {
	return pgx.Identifier{t.Home.Schema, "customers"}.Sanitize()
}

// benchSchemas times many schema homes visited in turn against one that is visited always, with the same connections.
func (a *app) benchSchemas(ctx context.Context, h *house, keys isolation.Keyring, length time.Duration) (section benchSection, err error) {
	a.progress("%d schema homes in turn", benchSchemas)
	homes := make([]placement.Tenant, benchSchemas)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(benchClients)
	for i := range homes {
		g.Go(func() (err error) {
			homes[i], err = h.benchAdd(gctx, fmt.Sprintf("bench-schema-%d", i), placement.ModelSchema)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return section, err
	}
	first, err := h.benchSubject(ctx, homes[0], keys)
	if err != nil {
		return section, err
	}
	section = benchSection{Mode: first.route.Database.Mode, Model: fmt.Sprintf("%d schemas in turn", benchSchemas), Network: "loopback"}
	err = h.atHome(ctx, homes[0], func(conn *pgx.Conn) error {
		section.PostgreSQL = conn.PgConn().ParameterStatus("server_version")
		return nil
	})
	if err != nil {
		return section, err
	}
	cfg := first.router
	cfg.Pools = pools.Config{MaxConns: 1}
	single, err := router.New(cfg)
	if err != nil {
		return section, err
	}
	defer single.Close()
	cfg.Pools = pools.Config{MaxConns: benchClients, MaxPerClient: benchClients}
	whole, err := router.New(cfg)
	if err != nil {
		return section, err
	}
	defer whole.Close()

	next := 0
	visit := func(r *router.Router, among, clients int) func(context.Context) error {
		return func(ctx context.Context) error {
			g, ctx := errgroup.WithContext(ctx)
			for range clients {
				db := r.Tenant(homes[next%among].ID)
				next++
				g.Go(func() error { return drain(db.Query(ctx, benchSQL, benchEmail)) })
			}
			return g.Wait()
		}
	}
	one, pool := "one connection: ", fmt.Sprintf("a pool, %d clients: ", benchClients)
	section.Ways, err = timeWays(ctx, length, []pairs.Way{
		{Name: one + "one schema", Do: visit(single, 1, 1)},
		{Name: one + "in turn", Against: one + "one schema", Do: visit(single, benchSchemas, 1)},
		{Name: pool + "one schema", Do: visit(whole, 1, benchClients)},
		{Name: pool + "in turn", Against: pool + "one schema", Do: visit(whole, benchSchemas, benchClients)},
	})
	return section, err
}
