package router

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/pools"
)

// adminSQL opens a transaction across tenants and writes its reason to the database's log.
var adminSQL = fmt.Sprintf(asAskedSQL, "landlord.admin_enter($3)")

// Admin is the handle for work across tenants: reports, support, repairs. It has a login of its own that row-level security
// does not bind, and it is never to be reached by a request's input.
type Admin struct {
	r      *Router
	reason string
}

// Admin returns the handle, for a reason that is logged with every transaction: beside the data, unless it is read-only, and
// in the router's log. An empty reason is refused.
func (r *Router) Admin(reason string) (*Admin, error) {
	if strings.TrimSpace(reason) == "" {
		return nil, fmt.Errorf("%w: work across tenants needs a reason", ErrRefused)
	}
	return &Admin{r: r, reason: reason}, nil
}

// Tx runs fn in a transaction of one database of a cluster, and commits it when fn returns nil. Inserts must name their
// tenant_id. In a schema home the tables must be qualified.
func (a *Admin) Tx(ctx context.Context, cluster, database string, opts TxOptions, fn func(ctx context.Context, tx *Tx) error) error {
	ctx, o := a.r.observe(ctx, Call{Op: OpTx})
	tx, err := a.begin(ctx, cluster, database, opts)
	if err != nil {
		o.end(way{}, err)
		return err
	}
	return tx.do(ctx, o, fn)
}

// begin returns a transaction of which nothing has been sent yet.
func (a *Admin) begin(ctx context.Context, cluster, database string, opts TxOptions) (*Tx, error) {
	if err := errors.Join(opts.validate(), a.r.notInTx(ctx)); err != nil {
		return nil, err
	}
	if err := a.r.instance.admit(ctx); err != nil {
		return nil, err
	}
	t, err := a.target(ctx, cluster, database)
	if err != nil {
		return nil, err
	}
	rt := &route{target: t, series: a.r.stats.series(cluster, "")}
	a.r.log.InfoContext(ctx, "work across tenants", "cluster", cluster, "database", database, "reason", a.reason,
		"read_only", opts.ReadOnly)
	return &Tx{
		r:    a.r,
		opts: opts,
		place: func(_ context.Context, try func(*route) error) (way, error) {
			return way{route: rt}, typed(try(rt))
		},
		get: func(ctx context.Context, _ *route) (*pools.Conn, error) {
			conn, err := a.r.pools.Acquire(ctx, pools.Request{
				Server: t.cluster.Name, Pool: "admin " + t.key,
				Connect: func(ctx context.Context) (*pgconn.PgConn, error) {
					return a.r.connect(ctx, t, isolation.AdminRole, openAdminSession)
				},
			})
			if err != nil {
				return nil, unreachable(ctx, err)
			}
			return conn, nil
		},
		open: func(_ *route, opts *TxOptions) *opening {
			return &opening{begin: beginSQL(*opts), enter: adminSQL, params: func(*session) [][]byte {
				return append(opts.stated(), []byte(a.reason))
			}}
		},
	}, nil
}

func (a *Admin) target(ctx context.Context, cluster, database string) (*target, error) {
	c, err := a.r.cfg.Catalog.Cluster(ctx, cluster)
	if err != nil {
		return nil, err
	}
	all, err := a.r.cfg.Catalog.Databases(ctx)
	if err != nil {
		return nil, err
	}
	for _, db := range all {
		if db.Cluster == cluster && db.Name == database {
			return a.r.cache.target(c, db), nil
		}
	}
	return nil, fmt.Errorf("work in database %s of cluster %s: the catalog does not know it", database, cluster)
}

// openAdminSession makes a connection of the admin login ready.
func openAdminSession(ctx context.Context, conn *pgx.Conn, id isolation.Identity) (*session, error) {
	return openSession(ctx, conn, id, adminSQL, nil, isolation.ResetSQL(true), nil)
}
