package fleet_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/fingerprint"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// ward is a small fleet of all kinds of homes behind a wire, and a run that has all kinds of files.
type ward struct {
	*testhouse.House
	wire    *wire
	dsn     string // of the catalog, along the wire
	control string // its database
	set     *migrate.Set
	all     []placement.Placement
	look    map[string]*pgx.Conn               // into each database, past the wire
	want    map[string]fingerprint.Fingerprint // of every home, by database/schema, after an undisturbed run
}

func newWard(t *testing.T) *ward {
	t.Helper()
	w := &ward{}
	server := pgtest.Server(t)
	w.wire = newWire(t, server.Addr())
	host, port, err := net.SplitHostPort(w.wire.listener.Addr().String())
	require.NoError(t, err)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	w.House = testhouse.New(t, testhouse.Options{
		Clusters: []string{"a"}, Endpoint: func(string, string, int) (string, int) { return host, number },
	})
	along := func(dsn string) string {
		u, err := url.Parse(dsn)
		require.NoError(t, err)
		u.Host = net.JoinHostPort(host, port)
		return u.String()
	}
	w.dsn = along(w.CatalogDSN)
	catalog, err := pgx.ParseConfig(w.CatalogDSN)
	require.NoError(t, err)
	w.control = catalog.Database
	cluster, err := w.Catalog.Cluster(t.Context(), "a")
	require.NoError(t, err)
	operator, _ := strings.CutPrefix(string(cluster.Operator), "file:")
	require.NoError(t, os.WriteFile(operator, []byte(along(server.DSN)), 0o600))

	w.all = []placement.Placement{
		w.Add(t, "shared", placement.ModelShared, "a"), w.Add(t, "own", placement.ModelDatabase, "a"),
		w.Add(t, "schema", placement.ModelSchema, "a"), w.Add(t, "sibling", placement.ModelSchema, "a"),
	}
	w.set = with(t,
		"00004_note.sql", addNote+"create table visits (tenant_id uuid, id bigint, primary key (tenant_id, id));",
		"00005_by_note.sql", "-- +goose NO TRANSACTION\n-- +goose Up\ncreate index concurrently customers_by_note on customers (tenant_id, note);",
		"00006_slug.sql", "-- landlord: scope=database\n-- +goose Up\n"+
			"create function slug(s text) returns text language sql immutable return lower(s);",
		"00007_by_slug.sql", "create index customers_by_slug on customers (tenant_id, slug(note));")
	w.look = map[string]*pgx.Conn{}
	for database := range w.databases() {
		w.look[database] = w.Super(t, database)
	}
	return w
}

// process is a new process's fleet, with leases that are over soon.
func (w *ward) process(t *testing.T, catalog *placement.Catalog) *fleet.Fleet {
	return newFleet(t, w.House, w.set, func(c *fleet.Config) { c.Catalog, c.Lease, c.Grace = catalog, 400*time.Millisecond, time.Second })
}

// die lets a process run until it is cut off, and reports whether it got that far.
func (w *ward) die(t *testing.T, c cut) (reached bool) {
	t.Helper()
	catalog, err := placement.Open(t.Context(), placement.Config{DSN: w.dsn, Retry: -1})
	require.NoError(t, err)
	fell := w.wire.arm(c, w.control)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		select {
		case <-fell:
			cancel()
		case <-ctx.Done():
		}
	}()
	_, err = w.process(t, catalog).Up(ctx, fleet.Options{})
	catalog.Close()
	if reached = w.wire.cutOff(); reached {
		<-fell
	} else {
		require.NoError(t, err, "%s", c)
	}
	cancel()
	<-gone
	w.wire.heal()
	return reached
}

// goOn lets another process go on: resume, where there is a run, or just up.
func (w *ward) goOn(t *testing.T, resume bool) error {
	f := w.process(t, w.Catalog)
	if resume {
		_, err := f.Resume(t.Context(), fleet.Options{})
		if !errors.Is(err, placement.ErrNoRun) {
			return err
		}
	}
	_, err := f.Up(t.Context(), fleet.Options{})
	return err
}

// heal takes everything back to where it was before the run.
func (w *ward) heal(t *testing.T) {
	t.Helper()
	for database, homes := range w.databases() {
		sql := ""
		for _, home := range homes {
			schema := pgx.Identifier{home.Schema}.Sanitize()
			sql += "alter table " + schema + ".customers drop column if exists note; drop table if exists " + schema + ".visits;"
		}
		w.SuperExec(t, database, sql+"drop function if exists extensions.slug; delete from landlord.schema_step;"+
			"delete from landlord.schema_version where version > 3")
	}
	w.SuperExec(t, w.control, "delete from landlord.runs")
}

// databases are the homes in each.
func (w *ward) databases() map[string][]fingerprint.Home {
	homes := map[string][]fingerprint.Home{}
	for _, p := range w.all {
		home := fingerprint.Home{Schema: p.Home.Schema, Tenant: p.Tenant.String()}
		if p.Model == placement.ModelShared {
			home.Tenant = ""
		}
		homes[p.Home.Database] = append(homes[p.Home.Database], home)
	}
	return homes
}

// fingerprints are those of all homes.
func (w *ward) fingerprints(t *testing.T) map[string]fingerprint.Fingerprint {
	t.Helper()
	all := map[string]fingerprint.Fingerprint{}
	for database, homes := range w.databases() {
		sums, busy, err := fingerprint.Read(t.Context(), w.look[database], homes)
		require.NoError(t, err)
		require.Empty(t, busy)
		for schema, sum := range sums {
			all[database+"/"+schema] = sum
		}
	}
	require.Len(t, all, len(w.all))
	return all
}

// versions are those that a home has.
func (w *ward) versions(t *testing.T, home placement.Home) []int64 {
	t.Helper()
	rows, err := w.look[home.Database].Query(t.Context(), "select version from landlord.schema_version where schema = $1 order by 1", home.Schema)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(t, err)
	return all
}

// halfway tells whether some home has a part of the run's files.
func (w *ward) halfway(t *testing.T) bool {
	t.Helper()
	some, most := 0, 0
	for _, p := range w.all {
		n := len(w.versions(t, p.Home)) - 3
		some += n
		most += 3
	}
	return some > 0 && some < most
}

// whole checks that every home has all, once, and that nothing else is left of whoever worked there.
func (w *ward) whole(t *testing.T, why string) {
	t.Helper()
	for _, p := range w.all {
		require.Equal(t, []int64{1, 2, 3, 4, 5, 7}, w.versions(t, p.Home), why)
	}
	if w.want != nil {
		require.Equal(t, w.want, w.fingerprints(t), why)
	}
	const left = `
select (select count(*) from pg_index where not indisvalid or not indisready),
       (select count(*) from landlord.schema_step where unfinished is not null),
       (select count(*) from landlord.schema_version where schema = 'landlord.database' and version = 6),
       (select count(*) from pg_stat_activity where datname = current_database() and application_name = 'landlord migrate')
       + (select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database()))`
	for database := range w.databases() {
		conn := w.look[database]
		require.Eventually(t, func() bool { // a server process needs a moment to find its client gone
			var invalid, unfinished, done, at int
			require.NoError(t, conn.QueryRow(t.Context(), left).Scan(&invalid, &unfinished, &done, &at))
			return invalid == 0 && unfinished == 0 && done == 1 && at == 0
		}, 10*time.Second, 5*time.Millisecond, why)
	}
	run, err := w.Catalog.LastRun(t.Context())
	require.NoError(t, err, why)
	require.Equal(t, placement.RunDone, run.State, why)
	targets, err := w.Catalog.RunTargets(t.Context(), run.ID)
	require.NoError(t, err)
	for _, target := range targets {
		require.Equal(t, placement.TargetVerified, target.State, why)
	}
	plan, err := w.process(t, w.Catalog).Plan(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Empty(t, plan.Targets, why)
}

func TestAProcessMayDieAtAnyMessageToAHome(t *testing.T) {
	t.Parallel()
	killAtMessages(t, false)
}

func TestAProcessMayDieAtAnyMessageToTheCatalog(t *testing.T) {
	t.Parallel()
	killAtMessages(t, true)
}

// killAtMessages runs the same migrations again and again, each time until the process dies at another message, and lets
// another process go on. LANDLORD_SCALE=full takes every message and moment, otherwise it is a few of them by chance.
func killAtMessages(t *testing.T, catalog bool) {
	w := newWard(t)
	require.False(t, w.die(t, cut{}))
	n, homes := w.wire.counts()
	if !catalog {
		n = homes
	}
	w.whole(t, "undisturbed")
	w.want = w.fingerprints(t)

	cuts := allCuts(catalog, n)
	if os.Getenv("LANDLORD_SCALE") != "full" {
		cuts = someOf(cuts, 8)
	}
	reached, unfinished, halfway := 0, 0, 0
	for _, c := range cuts {
		w.heal(t)
		if w.die(t, c) {
			reached++
		}
		if run, err := w.Catalog.LastRun(t.Context()); err == nil && run.State == placement.RunRunning {
			unfinished++
		}
		if w.halfway(t) {
			halfway++
		}
		require.NoError(t, w.goOn(t, rand.N(2) == 0), "%s", c)
		w.whole(t, c.String())
	}
	t.Logf("%d messages in a run; died at %d of %d places, which left %d runs unfinished, %d with some homes done", n, reached, len(cuts),
		unfinished, halfway)
	require.Greater(t, reached, len(cuts)/2)
	require.Positive(t, unfinished)
}

// allCuts are all places to die at among n messages.
func allCuts(catalog bool, n int) (cuts []cut) {
	for i := range n {
		for _, when := range []moment{before, during, after} {
			if !catalog || when != during { // the ledger's statements take no time
				cuts = append(cuts, cut{catalog: catalog, n: i + 1, when: when})
			}
		}
	}
	return cuts
}

// someOf takes one of each of n parts, so that no part of a run is left out.
func someOf(cuts []cut, n int) (some []cut) {
	for i := range n {
		from, to := i*len(cuts)/n, (i+1)*len(cuts)/n
		some = append(some, cuts[from+rand.N(to-from)])
	}
	return some
}
