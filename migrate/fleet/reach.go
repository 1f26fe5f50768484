package fleet

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/placement"
)

// connectTimeout is how long a server may take to let somebody in, where its endpoint does not say.
const connectTimeout = 10 * time.Second

// reach is how to get to every database, as the catalog knew it at one moment.
type reach struct {
	clusters map[string]placement.Cluster
	stamps   map[place]string
}

func (f *Fleet) reach(ctx context.Context) (reach, error) {
	r := reach{clusters: make(map[string]placement.Cluster), stamps: make(map[place]string)}
	clusters, err := f.cfg.Catalog.Clusters(ctx)
	if err != nil {
		return r, err
	}
	databases, err := f.cfg.Catalog.Databases(ctx)
	if err != nil {
		return r, err
	}
	for _, c := range clusters {
		r.clusters[c.Name] = c
	}
	for _, d := range databases {
		r.stamps[place{d.Cluster, d.Name}] = d.Stamp
	}
	return r, nil
}

// connect opens a connection to a database and sees to it that it is the one that was meant, and ready for this program. Homes
// are the migrator's; what concerns a whole database or server needs its operator.
func (r reach) connect(ctx context.Context, at place, scope migrate.Scope) (conn *pgx.Conn, err error) {
	c, ok := r.clusters[at.cluster]
	stamp, known := r.stamps[at]
	if !ok || !known {
		return nil, fmt.Errorf("the catalog does not know database %s of cluster %s: run landlord doctor", at.database, at.cluster)
	}
	var cfg *pgx.ConnConfig
	if scope == migrate.ScopeTenant {
		cfg, err = c.LoginConfig(isolation.MigratorRole, at.database)
	} else {
		cfg, err = c.OperatorConfig(at.database)
	}
	if err != nil {
		return nil, err
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	// Who gives up tells the server, so that a statement does not hold its locks for nobody.
	cfg.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: time.Second}
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "landlord migrate"
	}
	conn, err = pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := verify(ctx, conn, at, stamp); err != nil {
		return nil, errors.Join(err, closeConn(ctx, conn))
	}
	return conn, nil
}

func verify(ctx context.Context, conn *pgx.Conn, at place, stamp string) error {
	got, err := isolation.ReadIdentity(ctx, conn)
	if err != nil {
		return err
	}
	if err := (isolation.Identity{Cluster: at.cluster, Stamp: stamp}).Check(got); err != nil {
		return err
	}
	if got.Version != isolation.Version {
		return fmt.Errorf("landlord's objects in database %s have version %d, this program's %d: run landlord init", at.database,
			got.Version, isolation.Version)
	}
	return nil
}

func closeConn(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return conn.Close(ctx)
}

// look reads what the places of a database have.
func (r reach) look(ctx context.Context, at place) (histories, error) {
	conn, err := r.connect(ctx, at, migrate.ScopeTenant)
	if err != nil {
		return nil, err
	}
	have, err := readHistories(ctx, conn, nil)
	return have, errors.Join(err, closeConn(ctx, conn))
}

// histories is what places of one database have. Places without migrations are not in it.
type histories map[string]*history

// history is what many places have alike, and what follows from it.
type history struct {
	applied []migrate.Applied
	judged  map[migrate.Scope]judgement
}

type judgement struct {
	pending []migrate.Migration
	err     error
}

// readHistories reads what the named places have, or all of them. Places with the same history come as one row, so that what
// is sent and kept does not grow with places times migrations.
func readHistories(ctx context.Context, conn *pgx.Conn, places []string) (histories, error) {
	const query = `
select versions, checksums, array_agg(schema::text)
  from (select schema, array_agg(version order by version) as versions, array_agg(checksum order by version) as checksums
          from landlord.schema_version where $1::text[] is null or schema = any($1::name[]) group by schema) h
 group by versions, checksums`
	rows, err := conn.Query(ctx, query, places)
	if err != nil {
		return nil, fmt.Errorf("read applied versions: %w", err)
	}
	found := make(histories)
	var versions []int64
	var checksums, schemas []string
	_, err = pgx.ForEachRow(rows, []any{&versions, &checksums, &schemas}, func() error {
		h := &history{judged: make(map[migrate.Scope]judgement)}
		for i, v := range versions {
			h.applied = append(h.applied, migrate.Applied{Version: v, Checksum: checksums[i]})
		}
		for _, s := range schemas {
			found[s] = h
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read applied versions: %w", err)
	}
	return found, noteGoose(ctx, conn, found, places)
}

// pending is what is to be done at a target to bring it where a run aims. Each history is judged once.
func (h histories) pending(set *migrate.Set, to aim, t target) ([]migrate.Migration, error) {
	scope := migrate.Scope(t.Scope)
	has := h[t.Home.Schema]
	if has == nil {
		return to.pending(set, scope, nil)
	}
	j, ok := has.judged[scope]
	if !ok {
		j.pending, j.err = to.pending(set, scope, has.applied)
		has.judged[scope] = j
	}
	return j.pending, j.err
}

var quoted = regexp.MustCompile(`"(?s:.*)"`)

// redact is the text of an error without what may come from rows: PostgreSQL quotes the data that it finds wrong.
func redact(err error) string {
	if pgerr.Is(err, "22") {
		return quoted.ReplaceAllString(err.Error(), `"…"`)
	}
	return err.Error()
}
