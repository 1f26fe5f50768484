package fleet_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// scale is how many schemas the comparison takes.
func scale() int {
	if os.Getenv("LANDLORD_SCALE") == "full" {
		return 1000
	}
	return 50
}

// The figures are printed, not judged: a test does not know what else its machine does.
func TestOneNewFileOverManySchemasBesideNaiveGoose(t *testing.T) {
	t.Parallel()
	n := scale()
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	var g errgroup.Group
	g.SetLimit(4)
	for i := range n {
		req := placement.Request{ID: h.NewID(t), Slug: tenant.Slug(fmt.Sprintf("t-%04d", i)), Model: placement.ModelSchema, Cluster: "a"}
		g.Go(func() error {
			_, err := h.Service.Add(t.Context(), req)
			return err
		})
	}
	require.NoError(t, g.Wait())

	rates := map[string]float64{}
	measure := func(name string, fn func()) {
		start := time.Now()
		fn()
		rates[name] = float64(n) / time.Since(start).Seconds()
		t.Logf("%-28s %8.0f schemas/s", name, rates[name])
	}
	for _, workers := range []int{1, 4} {
		name := fmt.Sprintf("landlord, %d workers", workers)
		set := with(t, "00004_note.sql", addNote)
		if workers == 4 {
			set = with(t, "00004_note.sql", addNote, "00005_more.sql", "alter table customers add column more text;")
		}
		f := newFleet(t, h, set, func(c *fleet.Config) { c.Workers = workers })
		measure(name, func() {
			s, err := f.Up(t.Context(), fleet.Options{})
			require.NoError(t, err)
			require.Equal(t, n+1, s.Counts[placement.TargetVerified])
		})
		measure(name+", nothing to do", func() {
			s, err := f.Up(t.Context(), fleet.Options{})
			require.NoError(t, err)
			require.Equal(t, n+1, s.UpToDate)
		})
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("memory in use %d MB", m.HeapAlloc>>20)

	dsn, schemas := plainSchemas(t, n)
	fsys := fstest.MapFS{"00001_note.sql": {Data: []byte("-- +goose Up\n" + addNote)}}
	measure("naive goose, 1 worker", func() {
		for _, schema := range schemas {
			naiveUp(t, dsn, schema, fsys)
		}
	})
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	measure("raw string, 1 worker", func() {
		for _, schema := range schemas {
			text := "begin;set local lock_timeout=100;set local search_path=" + schema + ";" +
				"alter table customers add column more text;insert into public.versions values ('" + schema + "', 5);commit"
			_, err := conn.PgConn().Exec(t.Context(), text).ReadAll()
			require.NoError(t, err)
		}
	})
	one := rates["landlord, 1 workers"]
	t.Logf("one worker: %.1f times naive goose, %.2f of the raw string", one/rates["naive goose, 1 worker"], one/rates["raw string, 1 worker"])
}

// plainSchemas makes a database with n schemas of the sample's shape, without landlord.
func plainSchemas(t *testing.T, n int) (dsn string, schemas []string) {
	t.Helper()
	dsn = pgtest.NewDatabase(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), "create table public.versions (schema name, version bigint, primary key (schema, version))")
	require.NoError(t, err)
	for i := range n {
		schema := fmt.Sprintf("s_%04d", i)
		schemas = append(schemas, schema)
		text := "create schema " + schema + "; set search_path = " + schema + ";"
		for _, m := range with(t).Migrations() {
			for _, s := range m.Statements {
				text += s + ";\n"
			}
		}
		_, err := conn.PgConn().Exec(t.Context(), text).ReadAll()
		require.NoError(t, err)
	}
	return dsn, schemas
}

// naiveUp is what one does first: a connection and a provider for each schema.
func naiveUp(t *testing.T, dsn, schema string, fsys fstest.MapFS) {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.RuntimeParams["search_path"] = schema
	db := stdlib.OpenDB(*cfg)
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, fsys, goose.WithDisableGlobalRegistry(true))
	require.NoError(t, err)
	_, err = provider.Up(context.WithoutCancel(t.Context()))
	require.NoError(t, err)
}
