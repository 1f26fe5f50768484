// Package router hands a service each tenant's database work, in the right place and inside the tenant's scope, with the
// same code for all three isolation models.
//
//	db := r.Tenant(id)
//	err := db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error { ... })
//	err := db.QueryRow(ctx, sql, args...).Scan(&x)
//
// It guarantees that every statement runs in a transaction which the data itself has opened for that tenant; that a stale
// placement costs a retry and never a wrong row; that a connection is put back as it was opened or destroyed; and that
// nothing is reported done before the server has said so. What a tenant may do inside its rows is the application's
// business.
package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/pools"
	"github.com/landlord-go/landlord/tenant"
)

// retryAfter is when a caller should try a moving tenant again: a cutover is over in well under a second.
const retryAfter = time.Second

// Config of a Router.
type Config struct {
	Catalog *placement.Catalog // required; the caller closes it, after the router
	Keys    isolation.Keyring  // seal keys; required where a home's mode is sealed or sealed-mac

	CacheSize int           // tenants whose placement is kept; 0: 100,000
	Pools     pools.Config  // limits of the connection pools
	MoveWait  time.Duration // how long a call waits for a tenant that is being moved; 0: 3 s
	AppName   string        // application_name of the connections; empty: landlord
	Logger    *slog.Logger  // nil: none
	Tracer    Tracer        // nil: none, at no cost

	// SchemaVersion is the version of the newest migration, of scope tenant, that the application was written for; 0: it does
	// not say. A tenant whose home is older is ErrBehind, until its migration is done: nothing needs a restart. A home that was
	// seen at the version is not asked again while its tenants stay there.
	//
	// The catalog keeps record of every router's version, so that no migration of the phase contract takes away what one that
	// is alive may read: see ErrOutdated. A router that does not say its version holds up all of them.
	SchemaVersion int64
	SchemaWait    time.Duration // how long a call waits for a home that is behind; 0: it does not
	Instance      string        // what people call this process, up to 200 characters; empty: the host's name and the process id

	// Dial, if not nil, makes the network connections to servers, to go through a tunnel or a proxy.
	Dial pgconn.DialFunc

	// Types, if not nil, registers PostgreSQL types of the application on every connection's map.
	Types func(*pgtype.Map)
}

// Validate reports every problem at once.
func (c Config) Validate() error {
	errs := []error{c.Pools.Validate()}
	if c.Catalog == nil {
		errs = append(errs, errors.New("Catalog is missing"))
	}
	if c.CacheSize < 0 {
		errs = append(errs, errors.New("CacheSize is below 0"))
	}
	if c.MoveWait < 0 {
		errs = append(errs, errors.New("MoveWait is below 0"))
	}
	if c.SchemaVersion < 0 {
		errs = append(errs, errors.New("SchemaVersion is below 0"))
	}
	if c.SchemaWait < 0 {
		errs = append(errs, errors.New("SchemaWait is below 0"))
	}
	if odd := func(r rune) bool { return !unicode.IsPrint(r) }; !utf8.ValidString(c.Instance) ||
		utf8.RuneCountInString(c.Instance) > maxInstance || strings.ContainsFunc(c.Instance, odd) {
		errs = append(errs, fmt.Errorf("Instance is not a name of up to %d printable characters", maxInstance))
	}
	return errors.Join(errs...)
}

// Router routes tenants to their homes. It is safe for concurrent use.
type Router struct {
	cfg      Config
	log      *slog.Logger
	cache    *cache
	pools    *pools.Pools
	stats    *stats
	shares   *shares
	instance *instance
}

// New returns a router. It connects to nothing yet and starts nothing; Run keeps its placements fresh. Before its first call
// touches a home it puts itself on the catalog's record of instances, and Close takes it off.
func New(cfg Config) (*Router, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure the router: %w", err)
	}
	if cfg.CacheSize == 0 {
		cfg.CacheSize = 100_000
	}
	if cfg.MoveWait == 0 {
		cfg.MoveWait = 3 * time.Second
	}
	if cfg.Pools.MaxConns == 0 {
		cfg.Pools.MaxConns = pools.DefaultMaxConns
	}
	if cfg.AppName == "" {
		cfg.AppName = "landlord"
	}
	if cfg.Instance == "" {
		cfg.Instance = defaultInstance()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p, err := pools.New(cfg.Pools)
	if err != nil {
		return nil, err
	}
	s := newStats()
	c, err := newCache(cfg.Catalog, cfg.CacheSize, s)
	if err != nil {
		return nil, err
	}
	r := &Router{
		cfg: cfg, log: cfg.Logger, cache: c, pools: p, stats: s,
		shares: newShares(cfg.Catalog, p, cfg.Logger, cfg.Pools.MaxConns),
	}
	r.instance = newInstance(cfg, r.shares.process)
	c.version = cfg.SchemaVersion
	c.meet = r.shares.meet
	c.connect = func(ctx context.Context, t *target) (*pgconn.PgConn, error) {
		return r.connect(ctx, t, t.db.Login, r.openTenantSession)
	}
	return r, nil
}

// Run follows the catalog until ctx ends: a placement changed elsewhere is known here within milliseconds, and the
// connections of each cluster are divided fairly among all processes that run, within its budget. Without it the router
// still never acts on a stale placement, because the home refuses it and the router asks again; but it opens
// Config.Pools.MaxConns connections per cluster, whatever others do, and seems to have died to those who look at the
// instances of the application.
func (r *Router) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { r.shares.keep(ctx) })
	work.Go(func() { r.instance.keep(ctx) })
	err := r.cfg.Catalog.Watch(ctx, placement.Watcher{OnChange: r.cache.invalidate, OnReset: r.cache.invalidateAll})
	cancel()
	work.Wait()
	return err
}

// Close waits for every connection to come back and closes it.
func (r *Router) Close() {
	r.pools.Close()
	var work sync.WaitGroup
	work.Go(r.shares.release)
	work.Go(r.instance.leave)
	work.Wait()
}

// resolve returns where a tenant lives, once this router is on record.
func (r *Router) resolve(ctx context.Context, id tenant.ID) (*route, error) {
	if err := r.instance.admit(ctx); err != nil {
		return nil, err
	}
	return r.cache.resolve(ctx, id)
}

// Tenant returns the handle of one tenant. It does nothing yet: an unknown or missing tenant is reported when used.
func (r *Router) Tenant(id tenant.ID) *DB { return &DB{r: r, id: id} }

// FromContext returns the handle of the tenant that ctx carries, or of none, which every call reports as ErrNoTenant.
func (r *Router) FromContext(ctx context.Context) *DB {
	id, _ := tenant.FromContext(ctx)
	return r.Tenant(id)
}
