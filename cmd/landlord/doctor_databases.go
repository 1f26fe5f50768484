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
		if number < oldestServer {
			d.find("cluster "+c.Name, "upgrade the server to PostgreSQL 15 or newer", "the server has version %s", health.ServerVersion)
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
			well := d.database(ctx, c, db)
			health[i].Healthy = d.strangeKeys(ctx, c, db) && well
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

// database looks at one database with the application's own login, and tells whether all was well.
func (d *doctor) database(ctx context.Context, c placement.Cluster, db placement.Database) bool {
	x := &databaseCheck{doctor: d, where: "database " + db.Cluster + "/" + db.Name, db: db}
	cfg, err := c.LoginConfig(db.Login, db.Name)
	if err != nil {
		x.find("correct the cluster's reference 'app'", "%v", err)
		return false
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
	return x.found == 0
}

// databaseCheck is the examination of one database.
type databaseCheck struct {
	*doctor
	where string
	db    placement.Database
	found int
}

func (x *databaseCheck) find(fix, problem string, args ...any) {
	x.found++
	x.doctor.find(x.where, fix, problem, args...)
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

// register tries to write where policies read the tenant. The application must not be able to.
func (x *databaseCheck) register(ctx context.Context, conn *pgx.Conn, mode isolation.Mode) error {
	attempt := map[isolation.Mode]string{
		isolation.Sealed: `set local backtrace_functions = 't_00'`,
		isolation.Locked: `select set_config('landlord.tenant', 'landlord doctor', true)`,
	}[mode]
	if attempt == "" { // the other modes let it be written, and check or trust it
		return nil
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, attempt)
	switch {
	case err == nil:
		x.find("take from login "+x.db.Login+" whatever was granted to it beyond landlord's grants, then: landlord init",
			"the application can choose its tenant itself (%s)", attempt)
	case !pgerr.Is(err, pgerr.InsufficientPrivilege):
		return err
	}
	return tx.Rollback(ctx)
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
		nobody := isolation.Entry{Tenant: "landlord doctor", Home: "-/-/-", Epoch: 1}
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

// strangeKeys looks, as the operator, for keys that open the database and are not in the file: somebody has them, or nobody.
func (d *doctor) strangeKeys(ctx context.Context, c placement.Cluster, db placement.Database) (none bool) {
	if len(d.ring) == 0 {
		return true // found already
	}
	var known []isolation.KeyState
	err := asOperator(ctx, c, db.Name, func(conn *pgx.Conn) (err error) {
		known, err = isolation.Keys(ctx, conn)
		return err
	})
	if err != nil {
		return true // what is wrong there, the application's login has met too
	}
	none = true
	for _, k := range known {
		inFile := slices.ContainsFunc(d.ring, func(have isolation.Key) bool { return have.ID == k.ID })
		if k.NotAfter.IsZero() && !inFile { // one that is retired may have its grace
			none = false
			d.find("database "+db.Cluster+"/"+db.Name, fmt.Sprintf("landlord key retire %d --grace 0s, unless a service still seals with it", k.ID),
				"it accepts seal key %d, which is not in %s", k.ID, d.h.config.Keys)
		}
	}
	return none
}
