package rehearsal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/placement"
)

// What a server may take to let somebody in, and to make and drop a database, which goes on when the caller's context has ended.
const (
	connectTimeout = 10 * time.Second
	createTimeout  = time.Minute
	dropTimeout    = time.Minute
)

// skipError is why nothing can be rehearsed on a cluster.
type skipError struct{ err error }

func (e *skipError) Error() string { return e.err.Error() }
func (e *skipError) Unwrap() error { return e.err }

// maker makes scratch databases.
type maker struct {
	cfg          Config
	installation string
	clusters     map[string]placement.Cluster
	modes        map[string]isolation.Mode // of the shared database of each cluster
}

func newMaker(ctx context.Context, cfg Config) (*maker, error) {
	settings, err := cfg.Catalog.Settings(ctx)
	if err != nil {
		return nil, err
	}
	clusters, err := cfg.Catalog.Clusters(ctx)
	if err != nil {
		return nil, err
	}
	databases, err := cfg.Catalog.Databases(ctx)
	if err != nil {
		return nil, err
	}
	m := &maker{
		cfg: cfg, installation: settings.Installation,
		clusters: make(map[string]placement.Cluster), modes: make(map[string]isolation.Mode),
	}
	for _, c := range clusters {
		m.clusters[c.Name] = c
	}
	for _, d := range databases {
		if d.Model == placement.ModelShared {
			m.modes[d.Cluster] = isolation.Mode(d.Mode)
		}
	}
	return m, nil
}

// scratch is a database that is made to be dropped, with landlord's objects, and the connections to it.
type scratch struct {
	operator, migrator *pgx.Conn
}

// lost tells whether err says that the server is not there, rather than something of the files.
func (s *scratch) lost(err error) bool {
	return migrate.Judge(err) == migrate.Unreachable || pgerr.Is(err, pgerr.DiskFull, pgerr.DatabaseDropped)
}

// with makes a scratch database on a cluster, runs fn in it and drops it. What keeps it from being made is a skipError.
func (m *maker) with(ctx context.Context, cluster string, fn func(*scratch) error) error {
	c, ok := m.clusters[cluster]
	mode, set := m.modes[cluster]
	if !ok || !set {
		return &skipError{fmt.Errorf("the catalog does not know its shared database: run landlord init")}
	}
	cfg, err := c.OperatorConfig("")
	if err != nil {
		return &skipError{err}
	}
	made := false // what fn finds is no reason to skip
	err = connect(ctx, cfg, func(admin *pgx.Conn) (err error) {
		var may bool
		if err := admin.QueryRow(ctx, `select rolsuper or rolcreatedb from pg_roles where rolname = current_user`).Scan(&may); err != nil {
			return err
		}
		if !may {
			return fmt.Errorf("its operator %s may not make databases: alter role ... createdb lets it", cfg.User)
		}
		m.dropLeftovers(ctx, admin)
		name, purpose, err := m.create(ctx, admin)
		if name != "" {
			defer func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
				defer cancel()
				if dropErr := drop(ctx, c, admin, name, purpose); dropErr != nil {
					m.cfg.progress("cluster %s: database %s is left, and a rehearsal later than an hour from now drops it: %v", c.Name, name, dropErr)
				}
			}()
		}
		if err != nil {
			return err
		}
		return m.open(ctx, c, name, mode, func(s *scratch) error {
			made = true
			return fn(s)
		})
	})
	if _, skip := errors.AsType[*skipError](err); err != nil && !made && !skip && ctx.Err() == nil {
		return &skipError{err}
	}
	return err
}

// create makes the database, and returns its name also when it is not whole.
func (m *maker) create(ctx context.Context, admin *pgx.Conn) (name, purpose string, err error) {
	var now int64 // on the server's clock, with which its age will be compared
	if err := admin.QueryRow(ctx, `select extract(epoch from clock_timestamp())::bigint`).Scan(&now); err != nil {
		return "", "", err
	}
	name, purpose = newName(now), mark(m.installation, now)
	// Cut off, the server would go on with it, and nobody would drop what it makes.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTimeout)
	defer cancel()
	_, err = isolation.CreateDatabase(ctx, admin, name, purpose)
	return name, purpose, err
}

// open installs landlord's objects in a database and runs fn with connections to it.
func (m *maker) open(ctx context.Context, c placement.Cluster, name string, mode isolation.Mode, fn func(*scratch) error) error {
	cfg, err := c.OperatorConfig(name)
	if err != nil {
		return err
	}
	return connect(ctx, cfg, func(operator *pgx.Conn) error {
		// An installation of its own, so that nobody takes it for a home of this one.
		want := isolation.Identity{
			Installation: uuid.NewString(), Cluster: c.Name, Stamp: uuid.NewString(), AppLogin: isolation.AppRole, Mode: mode,
		}
		if _, err := isolation.Install(ctx, operator, want, nil); err != nil { // without keys: nobody enters there
			return err
		}
		cfg, err := c.LoginConfig(isolation.MigratorRole, name)
		if err != nil {
			return err
		}
		return connect(ctx, cfg, func(migrator *pgx.Conn) error {
			if got, err := isolation.ReadIdentity(ctx, migrator); err != nil || want.Check(got) != nil {
				return fmt.Errorf("the endpoint of the cluster does not lead to the server of its operator: %w", errors.Join(err, want.Check(got)))
			}
			return fn(&scratch{operator: operator, migrator: migrator})
		})
	})
}

// drop drops a scratch database, on a connection of its own where the one that made it is gone.
func drop(ctx context.Context, c placement.Cluster, admin *pgx.Conn, name, purpose string) error {
	if !admin.IsClosed() {
		return isolation.DropDatabase(ctx, admin, name, purpose)
	}
	cfg, err := c.OperatorConfig("")
	if err != nil {
		return err
	}
	return connect(ctx, cfg, func(admin *pgx.Conn) error { return isolation.DropDatabase(ctx, admin, name, purpose) })
}

func connect(ctx context.Context, cfg *pgx.ConnConfig, fn func(*pgx.Conn) error) (err error) {
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, connectTimeout)
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("connect to %s:%d as %s: %w", cfg.Host, cfg.Port, cfg.User, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx) // what it was for is answered
	}()
	return fn(conn)
}
