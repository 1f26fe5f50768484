package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// doctorAtOnce is how many databases doctor looks at together.
const doctorAtOnce = 4

// oldestServer is server_version_num of the first release that landlord works with.
const oldestServer = 150000

// cluster checks that the operator reaches a server that is new enough and has the connections that routers may open.
func (d *doctor) cluster(ctx context.Context, c placement.Cluster, all []placement.Cluster) bool {
	health := clusterHealth{Name: c.Name}
	err := asOperator(ctx, c, "", func(conn *pgx.Conn) error {
		var number int
		const q = `select split_part(current_setting('server_version'), ' ', 1), current_setting('server_version_num')::int`
		if err := conn.QueryRow(ctx, q).Scan(&health.ServerVersion, &number); err != nil {
			return err
		}
		d.release(c, health.ServerVersion, number)
		if err := d.direct(ctx, conn, c); err != nil {
			return err
		}
		ahead, err := d.clock(ctx, conn, "cluster "+c.Name)
		if err != nil {
			return err
		}
		health.ClockAhead = seconds(ahead)
		if d.keeps[c.Name], err = d.wal(ctx, conn, &health); err != nil {
			return err
		}
		return d.budget(ctx, conn, c, all)
	})
	if health.Reachable = err == nil; err != nil {
		d.find("cluster "+c.Name, "start the server, or correct endpoint and operator (landlord cluster set, or the configuration and landlord init)", "%v", err)
	}
	d.out.Clusters = append(d.out.Clusters, health)
	return health.Reachable
}

// budget compares what routers may open with what the server has for logins that are no superusers. Several clusters on one
// server share it. Whether that is the server itself or a pooler in front of it can be told only if the operator goes there too.
func (d *doctor) budget(ctx context.Context, conn *pgx.Conn, c placement.Cluster, all []placement.Cluster) error {
	endpoint, err := pgx.ParseConfig(c.Endpoint)
	if err != nil {
		return errors.New("its endpoint cannot be read")
	}
	if at := conn.Config(); at.Host != endpoint.Host || at.Port != endpoint.Port {
		return nil
	}
	var names []string
	budget := 0
	for _, other := range all {
		if other.Endpoint == c.Endpoint {
			names = append(names, other.Name)
			budget += other.Connections
		}
	}
	if names[0] != c.Name {
		return nil // found already
	}
	const q = `
select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
     - coalesce(current_setting('reserved_connections', true)::int, 0) -- from PostgreSQL 16 on`
	var slots int
	if err := conn.QueryRow(ctx, q).Scan(&slots); err != nil {
		return err
	}
	if budget > slots {
		d.find("cluster "+strings.Join(names, " and "), fmt.Sprintf("landlord cluster set %s --connections N, or raise the server's max_connections", c.Name),
			"routers may open %d connections, and the server has %d for them", budget, slots)
	}
	return nil
}

// databases checks every database on the servers that were reached.
func (d *doctor) databases(ctx context.Context, clusters []placement.Cluster, reached map[string]bool) error {
	all, err := d.h.catalog.Databases(ctx)
	if err != nil {
		return err
	}
	byName := map[string]placement.Cluster{}
	shared := map[string]bool{}
	for _, c := range clusters {
		byName[c.Name] = c
	}
	goodRoles := d.roles(ctx, clusters, reached, all)
	tenants, err := d.h.catalog.Tenants(ctx, placement.Filter{State: placement.StateActive})
	if err != nil {
		return err
	}
	health := make([]databaseHealth, len(all))
	var g errgroup.Group
	g.SetLimit(doctorAtOnce)
	for i, db := range all {
		c := byName[db.Cluster]
		if db.Name == c.SharedDatabase {
			shared[c.Name] = true
			d.modeOf(c.Name, db.Mode)
		}
		health[i] = databaseHealth{Cluster: db.Cluster, Name: db.Name, Mode: db.Mode, HomeVersion: db.HomeVersion}
		if !reached[db.Cluster] {
			continue
		}
		g.Go(func() error {
			x := &databaseCheck{doctor: d, where: "database " + db.Cluster + "/" + db.Name, db: db, roles: goodRoles[db.Cluster]}
			for _, t := range tenants {
				if t.Home.Cluster == db.Cluster && t.Home.Database == db.Name && len(x.tenants) < 2 {
					x.tenants = append(x.tenants, t)
				}
			}
			x.database(ctx, c)
			x.asOperator(ctx, c)
			health[i].Healthy, health[i].Pooler = x.found == 0, x.mode
			return nil
		})
	}
	_ = g.Wait() // each has said what it found
	d.out.Databases = health
	for _, c := range clusters {
		if !shared[c.Name] {
			d.find("cluster "+c.Name, "landlord init", "its shared database %s is not set up", c.SharedDatabase)
		}
	}
	return ctx.Err()
}

func (d *doctor) modeOf(cluster, mode string) {
	for i := range d.out.Clusters {
		if d.out.Clusters[i].Name == cluster {
			d.out.Clusters[i].Mode = mode
		}
	}
}

// databaseCheck is the examination of one database.
type databaseCheck struct {
	*doctor
	where   string
	db      placement.Database
	tenants []placement.Tenant // up to two that live there
	mode    string             // of the pooler before it; empty: there is none
	roles   bool               // those of the server are as they should be
	found   int
}

func (x *databaseCheck) find(fix, problem string, args ...any) {
	x.found++
	x.doctor.find(x.where, fix, problem, args...)
}

// database looks at the database with the application's own login.
func (x *databaseCheck) database(ctx context.Context, c placement.Cluster) {
	db := x.db
	cfg, err := c.LoginConfig(db.Login, db.Name)
	if err != nil {
		x.find("correct the cluster's reference 'app'", "%v", err)
		return
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec // prepares nothing, for there may be a pooler
	err = with(ctx, cfg, func(conn *pgx.Conn) error {
		id, err := isolation.ReadIdentity(ctx, conn)
		if err != nil {
			return err
		}
		asked := time.Now()
		if err := (isolation.Identity{Cluster: db.Cluster, Stamp: db.Stamp}).Check(id); errors.Is(err, isolation.ErrIdentity) {
			return err
		}
		x.agrees(id)
		if isolation.Pooled(conn, id) {
			var ok bool
			if x.mode, ok, err = x.pooler(ctx, cfg, conn, id); err != nil || !ok {
				return err
			}
			if db.Name == c.SharedDatabase {
				x.migratorsPooler(ctx, c)
			}
		}
		if err := x.register(ctx, conn, id.Mode); err != nil {
			return err
		}
		return x.keys(ctx, conn, id, asked)
	})
	switch {
	case err == nil:
	case pgerr.Is(err, pgerr.UndefinedDatabase):
		x.find("bring it back from a backup", "it does not exist any more")
	case pgerr.Is(err, pgerr.InvalidPassword, pgerr.InvalidAuthorization):
		x.find("landlord init, which sets the password that follows from the cluster's secret 'app'", "the application's login cannot connect: %v", err)
	case errors.Is(err, isolation.ErrIdentity):
		x.find("point the cluster's endpoint at the right server, or bring the right database back from a backup", "%v", err)
	default:
		x.find("see why the application's login cannot use it", "%v", err)
	}
}

// agrees compares what the database says of itself with this program and with the catalog.
func (x *databaseCheck) agrees(id isolation.Identity) {
	switch {
	case id.Version < isolation.Version:
		x.find("landlord init", "landlord's objects have version %d, this program's %d", id.Version, isolation.Version)
	case id.Version > isolation.Version:
		x.find("use the newer release of landlord", "landlord's objects have version %d, this program knows %d", id.Version, isolation.Version)
	}
	if id.Installation != x.settings.Installation {
		x.find("bring the catalog of that installation back from a backup", "it belongs to installation %s, the catalog is of %s",
			id.Installation, x.settings.Installation)
	}
	if id.Version != x.db.HomeVersion || string(id.Mode) != x.db.Mode || id.AppLogin != x.db.Login {
		x.find("landlord init", "it has version %d, mode %s and login %s; the catalog says %d, %s and %s",
			id.Version, id.Mode, id.AppLogin, x.db.HomeVersion, x.db.Mode, x.db.Login)
	}
}

// keys enters, with each key, a tenant that cannot exist: a database that knows the key says that the tenant is not there.
func (x *databaseCheck) keys(ctx context.Context, conn *pgx.Conn, id isolation.Identity, asked time.Time) error {
	if len(x.ring) == 0 {
		return nil // found already
	}
	var unknown []string
	for _, key := range x.ring {
		sealer, err := isolation.NewSealer(id.Mode, isolation.Keyring{key}, id.Stamp)
		if err != nil {
			return err
		}
		err = enterHome(ctx, conn, sealer, nobody, id.Clock.Add(time.Since(asked)))
		switch {
		case pgerr.Is(err, pgerr.BadSeal):
			unknown = append(unknown, fmt.Sprint(key.ID))
		case !pgerr.Is(err, pgerr.NotHere):
			return err
		}
	}
	if len(unknown) > 0 {
		x.find("landlord init, if the file is the right one", "it does not accept seal key %s of %s", strings.Join(unknown, ", "), x.h.config.Keys)
	}
	return nil
}

// asOperator looks at the database as the operator: which keys open it and since when, and whether its seal works.
func (x *databaseCheck) asOperator(ctx context.Context, c placement.Cluster) {
	if len(x.ring) == 0 {
		return // found already
	}
	err := asOperator(ctx, c, x.db.Name, func(conn *pgx.Conn) error {
		known, err := isolation.Keys(ctx, conn)
		if err != nil {
			return err
		}
		x.strangeKeys(known)
		if x.found == 0 && x.roles { // else it has its reason there that nobody can enter
			if err := x.selfTest(ctx, conn); err != nil {
				return err
			}
		}
		altered, err := isolation.Altered(ctx, conn)
		if len(altered) > 0 {
			x.find("landlord init, which makes them anew; see who has changed them", "routines are not what landlord installs: %s", strings.Join(altered, ", "))
		}
		return err
	})
	if err != nil && x.found == 0 { // else the application's login has met it too
		x.find("see why the operator cannot use it", "%v", err)
	}
}

// strangeKeys finds keys that open the database and are not in the file: somebody has them, or nobody. It keeps how old each is.
func (x *databaseCheck) strangeKeys(known []isolation.KeyState) {
	for _, k := range known {
		inFile := slices.ContainsFunc(x.ring, func(have isolation.Key) bool { return have.ID == k.ID })
		switch {
		case inFile && !k.Since.IsZero():
			x.mu.Lock()
			if since, ok := x.keySince[k.ID]; !ok || k.Since.Before(since) { // a database that came later learned it later
				x.keySince[k.ID] = k.Since
			}
			x.mu.Unlock()
		case !inFile && k.NotAfter.IsZero(): // one that is retired may have its grace
			x.find(fmt.Sprintf("landlord key retire %d --grace 0s, unless a service still seals with it", k.ID),
				"it accepts seal key %d, which is not in %s", k.ID, x.h.config.Keys)
		}
	}
}
