package integration_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/drift"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/migrate/lint"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

// renameFiles are the sample's migrations and those of the example in docs/migrations.md, which rename a column.
func renameFiles(t *testing.T) fstest.MapFS {
	t.Helper()
	all := fstest.MapFS{}
	for _, dir := range []string{testhouse.SampleDir(), "testdata/rename"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.sql"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, f := range files {
			text, err := os.ReadFile(f)
			require.NoError(t, err)
			all[filepath.Base(f)] = &fstest.MapFile{Data: text}
		}
	}
	return all
}

// customer is a row that both versions of the application know.
type customer struct {
	mu   sync.Mutex
	id   int64
	name string
	both bool // it has been written since whoever writes one column writes both
}

// shop is what both versions of the application have to agree on, for one tenant.
type shop struct {
	slug     string
	tenant   tenant.ID
	db       map[string]*router.DB // by the column that a version of the application knows
	mirrored *atomic.Bool          // from now on who writes one column writes both
	filled   *atomic.Bool          // and the rows from before have both, too

	mu        sync.Mutex
	customers []*customer
}

func (s *shop) add(c *customer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.customers = append(s.customers, c)
}

func (s *shop) any() *customer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.customers[rand.N(len(s.customers))]
}

// serve is one version of the application at work, until stop is closed. It knows one column.
func (s *shop) serve(ctx context.Context, column string, stop <-chan struct{}) (done int, err error) {
	for ; ; done++ {
		select {
		case <-stop:
			return done, nil
		default:
		}
		name := fmt.Sprintf("%s %d %x", column, done, rand.Uint64())
		added := &customer{name: name, both: s.mirrored.Load()}
		insert := "insert into customers (email, " + column + ") values ($1, $1) returning id"
		if err := s.db[column].QueryRow(ctx, insert, name).Scan(&added.id); err != nil {
			return done, fmt.Errorf("%s: insert %s: %w", s.slug, column, err)
		}
		s.add(added)
		if err := s.change(ctx, column, name+" changed"); err != nil {
			return done, fmt.Errorf("%s: update %s: %w", s.slug, column, err)
		}
		if err := s.check(ctx, column); err != nil {
			return done, fmt.Errorf("%s: read %s: %w", s.slug, column, err)
		}
	}
}

// change gives some customer another name.
func (s *shop) change(ctx context.Context, column, name string) error {
	c := s.any()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.both = s.mirrored.Load()
	tag, err := s.db[column].Exec(ctx, "update customers set "+column+" = $2 where id = $1", c.id, name)
	if err == nil && tag.RowsAffected() != 1 {
		err = errors.New("the row is gone")
	}
	c.name = name
	return err
}

// check asks for some customer's name.
func (s *shop) check(ctx context.Context, column string) error {
	c := s.any()
	c.mu.Lock()
	defer c.mu.Unlock()
	if column == "full_name" && !c.both && !s.filled.Load() {
		return nil
	}
	var name string
	err := s.db[column].QueryRow(ctx, "select "+column+" from customers where id = $1", c.id).Scan(&name)
	if err == nil && name != c.name {
		err = fmt.Errorf("%q was written, and %q is there", c.name, name)
	}
	return err
}

func TestAColumnIsRenamedUnderOldAndNewCodeAtWorkSideBySide(t *testing.T) {
	t.Parallel()
	const crowd = 1500
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	set, err := migrate.Load(renameFiles(t))
	require.NoError(t, err)
	release := func(version int64) *router.Router {
		return h.Router(t, func(c *router.Config) { c.SchemaVersion = version })
	}
	old, early, whole := release(3), release(4), release(7)
	var mirrored, filled atomic.Bool
	var shops []*shop
	for slug, model := range map[string]placement.Model{
		"shared-1": placement.ModelShared, "shared-2": placement.ModelShared, "schema": placement.ModelSchema, "own": placement.ModelDatabase,
	} {
		p := h.Add(t, slug, model, "a")
		s := &shop{slug: slug, mirrored: &mirrored, filled: &filled, db: make(map[string]*router.DB)}
		s.db["name"], s.db["full_name"], s.tenant = old.Tenant(p.Tenant), early.Tenant(p.Tenant), p.Tenant
		rows, err := s.db["name"].Query(t.Context(),
			"insert into customers (email, name) select 'crowd ' || i, 'crowd ' || i from generate_series(1, $1::int) i returning id, name", crowd)
		require.NoError(t, err)
		var c customer
		_, err = pgx.ForEachRow(rows, []any{&c.id, &c.name}, func() error { s.add(&customer{id: c.id, name: c.name}); return nil })
		require.NoError(t, err)
		shops = append(shops, s)
	}

	// deploy starts a version of the application for all tenants; what it returns ends it.
	deploy := func(column string) (retire func()) {
		var g errgroup.Group
		stop := make(chan struct{})
		var served atomic.Int64
		for _, s := range shops {
			g.Go(func() error {
				n, err := s.serve(t.Context(), column, stop)
				served.Add(int64(n))
				return err
			})
		}
		return func() {
			time.Sleep(200 * time.Millisecond) // it goes on for a while after the last change
			close(stop)
			require.NoError(t, g.Wait())
			require.Greater(t, served.Load(), int64(100))
		}
	}
	migrateTo := func(version int64) {
		f, err := fleet.New(fleet.Config{
			Catalog: h.Catalog, Set: set.Until(version), Lease: 2 * time.Second,
			Backfills: fleet.Backfills{Batches: migrate.Batches{First: 50, Most: 100}},
		})
		require.NoError(t, err)
		status, err := f.Up(t.Context(), fleet.Options{})
		require.NoError(t, err)
		require.Equal(t, placement.RunDone, status.Run.State, "%+v", status.Failures)
		targets, err := drift.Targets(t.Context(), h.Catalog)
		require.NoError(t, err)
		found, err := drift.Check(t.Context(), drift.Config{Catalog: h.Catalog, Set: set.Until(version)}, targets)
		require.NoError(t, err)
		for _, r := range found {
			require.Equal(t, drift.InSync, r.State, "%s at %d: %s %v", r.Home, version, r.Reason, r.Differences)
		}
	}

	retireOld := deploy("name")
	migrateTo(4)
	mirrored.Store(true)
	retireNew := deploy("full_name")
	migrateTo(5)
	filled.Store(true)
	migrateTo(6)
	migrateTo(7)
	retireOld()
	old.Close()
	retireNew() // and comes back, now that it can count on the column
	early.Close()
	for _, s := range shops {
		s.db["full_name"] = whole.Tenant(s.tenant)
	}
	retireNew = deploy("full_name")
	migrateTo(8)
	retireNew()

	for _, s := range shops {
		var rows int
		require.NoError(t, s.db["full_name"].QueryRow(t.Context(), "select count(*) from customers").Scan(&rows))
		require.Equal(t, len(s.customers), rows, s.slug)
		stored := make(map[int64]string)
		all, err := s.db["full_name"].Query(t.Context(), "select id, full_name from customers")
		require.NoError(t, err)
		var c customer
		_, err = pgx.ForEachRow(all, []any{&c.id, &c.name}, func() error { stored[c.id] = c.name; return nil })
		require.NoError(t, err)
		for _, c := range s.customers {
			require.Equal(t, c.name, stored[c.id], s.slug)
		}
		_, err = s.db["full_name"].Exec(t.Context(), "update customers set name = ''")
		require.True(t, pgerr.Is(err, pgerr.UndefinedColumn), "%v", err)
	}
}

func TestTheExampleOfARenameIsSafeAndShownAsItIs(t *testing.T) {
	t.Parallel()
	findings, err := lint.Check(renameFiles(t), lint.Options{})
	require.NoError(t, err)
	for _, f := range findings {
		require.False(t, f.Counts(), "%+v", f)
	}
	page, err := os.ReadFile(filepath.Join(root(), "docs", "migrations.md"))
	require.NoError(t, err)
	files, err := filepath.Glob("testdata/rename/*.sql")
	require.NoError(t, err)
	require.Len(t, files, 5)
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		shown := strings.Contains(string(page), "`"+filepath.Base(f)+"`\n\n```sql\n"+string(text)+"```\n")
		require.True(t, shown, "docs/migrations.md does not show %s as it is", f)
	}
}
