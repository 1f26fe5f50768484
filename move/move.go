// Package move takes a tenant from one home to another while it is being used: from any model to any model, on any cluster.
//
// It guarantees that every commit that the tenant's application was told of is at its final home exactly once; that never two homes
// are open; that a move, wherever its process dies, goes on from where it was, or is undone, and leaves nothing behind. What decides
// lies beside the data: the fence rows of the two homes, and the progress that is committed with the rows it is about. The catalog
// records how far a move has come and follows.
//
// The making of homes is left to package onboard, the application's transactions to package router: they wait at the fence for as
// long as a cutover takes, and then follow.
package move

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/placement"
)

// Homes makes the home that a move leads to, and takes away the one that is not needed any more.
type Homes interface {
	// Make makes p's home as for a new tenant, with its fence row in state importing and owner as its owner. What an earlier call
	// has left half-made is taken over, from whatever owner.
	Make(ctx context.Context, p placement.Placement, owner string) error
	// Unmake takes away p's home, all of the tenant's rows there, and the fence row, which must be importing or moved at p's epoch.
	// A home that is gone is nothing to do.
	Unmake(ctx context.Context, p placement.Placement) error
}

// Config of a Mover.
type Config struct {
	Catalog *placement.Catalog // required
	Homes   Homes              // required
	Logger  *slog.Logger       // nil: none
	// Progress, if not nil, hears about once a second how far the move is, from one goroutine at a time.
	Progress func(Status)
	// Workers is how many chunks are copied at once. Default: 2.
	Workers int
	// Limit is [placement.MoveRequest]'s.
	Limit int
}

// Mover starts and drives moves. It keeps no connection between calls and is safe for concurrent use.
type Mover struct {
	cfg Config
	log *slog.Logger
}

// New returns a mover. It connects to nothing.
func New(cfg Config) (*Mover, error) {
	var errs []error
	if cfg.Catalog == nil {
		errs = append(errs, errors.New("Catalog is missing"))
	}
	if cfg.Homes == nil {
		errs = append(errs, errors.New("Homes is missing"))
	}
	if cfg.Workers < 0 {
		errs = append(errs, errors.New("Workers is negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("configure the mover: %w", err)
	}
	cfg.Workers = cmp.Or(cfg.Workers, 2)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Progress == nil {
		cfg.Progress = func(Status) {}
	}
	return &Mover{cfg: cfg, log: cfg.Logger}, nil
}

// Status is how far a move is.
type Status struct {
	Move placement.Move // as it was recorded last; Rows, Bytes and Changes are those of now

	Lag     time.Duration // between a commit on one side and its being applied on the other
	WAL     int64         // bytes that the move's slots hold back; the greatest of its servers
	Left    time.Duration // estimated, of the copy; 0: not known, or it is over
	Waiting string        // what it waits for; empty: nothing
}

// expect estimates how long the copy will yet take, of which so many rows were brought over in the time that was taken.
func (s *Status) expect(rows int64, took time.Duration) {
	s.Left = 0
	if missing := s.Move.OfRows - s.Move.Rows; missing > 0 && rows > 0 && took > 0 {
		s.Left = time.Duration(float64(missing) / float64(rows) * float64(took))
	}
}

// side is one end of a move: the tenant at a home, with the epoch that it has there, and how the operator reaches it.
type side struct {
	placement.Placement
	cluster placement.Cluster
}

// settings are those of all the mover's sessions. None may be left to the server's, a database's or a login's defaults: what is
// copied as text must read the same on both sides, and nothing may be filtered, cut off, or committed without having reached a disk.
var settings = map[string]string{
	"application_name":                    "landlord move",
	"row_security":                        "off",
	"search_path":                         "pg_catalog",
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"idle_session_timeout":                "0",
	"default_transaction_isolation":       "read committed",
	"default_transaction_read_only":       "off",
	"default_transaction_deferrable":      "off",
	"synchronous_commit":                  "on",
	"client_encoding":                     "UTF8",
	"datestyle":                           "ISO",
	"intervalstyle":                       "postgres",
	"extra_float_digits":                  "3",
	"bytea_output":                        "hex",
	"timezone":                            "UTC",
	"tcp_keepalives_idle":                 "10",
	"tcp_keepalives_interval":             "5",
	"tcp_keepalives_count":                "3",
}

const connectTimeout = 10 * time.Second

// config is how the operator reaches the home's database.
func (s side) config() (*pgx.ConnConfig, error) {
	cfg, err := s.cluster.OperatorConfig(s.Home.Database)
	if err != nil {
		return nil, err
	}
	maps.Copy(cfg.RuntimeParams, settings)
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, connectTimeout)
	cfg.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		// From PostgreSQL 17 on.
		const q = `select set_config(name, '0', false) from pg_settings where name = 'transaction_timeout'`
		return conn.Exec(ctx, q).Close()
	}
	return cfg, nil
}

// connect opens a session of the operator's in the home's database. The caller closes it.
func (s side) connect(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := s.config()
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to %s:%d, database %s: %w", cfg.Host, cfg.Port, cfg.Database, err)
	}
	return conn, nil
}

// with runs fn on a session of its own.
func (s side) with(ctx context.Context, fn func(*pgx.Conn) error) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	return fn(conn)
}

// closeConn closes a session that nobody needs any more, whatever has become of it.
func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// sides reads how to reach the two ends of mv.
func (m *Mover) sides(ctx context.Context, mv placement.Move) (source, target side, err error) {
	source.Placement, target.Placement = mv.At(false), mv.At(true)
	for _, s := range []*side{&source, &target} {
		if s.cluster, err = m.cfg.Catalog.Cluster(ctx, s.Home.Cluster); err != nil {
			return source, target, err
		}
	}
	return source, target, nil
}

// sameDatabase tells whether both homes lie in one database, so that both fence rows can be flipped by one transaction.
func (d *drive) sameDatabase() bool {
	return d.source.Home.Cluster == d.target.Home.Cluster && d.source.Home.Database == d.target.Home.Database
}

// objectName is that of a move's publications, and the beginning of its slots' names: those of one server are all in one namespace.
func objectName(move string) string { return ObjectPrefix + strings.ReplaceAll(move, "-", "") }

// ObjectPrefix begins the names of all slots and publications of moves.
const ObjectPrefix = "landlord_move_"
