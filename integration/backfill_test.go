package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ask runs a query of one number on a cluster's shared database.
func (s site) ask(t *testing.T, cluster, query string) (n int) {
	t.Helper()
	out := s.must(t, "dev", "psql", "--cluster", cluster, "-c", "select 'is', ("+query+")")
	found := regexp.MustCompile(`is[ |]+(\d+)`).FindStringSubmatch(out)
	require.Len(t, found, 2, out)
	_, err := fmt.Sscan(found[1], &n)
	require.NoError(t, err)
	return n
}

func TestABackfillThatIsKilledAgainAndAgainMeetsEveryRowOnce(t *testing.T) {
	t.Parallel()
	const customers = 4000
	s := newSite(t)
	migrations := filepath.Join(s.dir, ".landlord", "migrations")
	require.NoError(t, os.WriteFile(filepath.Join(migrations, "00004_seen.sql"),
		[]byte("-- +goose Up\nalter table customers add column seen int not null default 0;\n"), 0o600))
	s.must(t, "migrate", "up")
	s.must(t, "dev", "psql", "--cluster", "a", "-c", fmt.Sprintf(
		"insert into public.customers (tenant_id, email, name) select gen_random_uuid(), i, i from generate_series(1, %d) i", customers))
	// A millisecond for each row.
	require.NoError(t, os.WriteFile(filepath.Join(migrations, "00005_see.sql"), []byte(
		"-- landlord: phase=backfill\n-- +goose Up\nupdate customers set seen = seen + 1 where pg_sleep(0.001) is not null;\n"), 0o600))

	const done = "select coalesce(sum(done), 0) from landlord.backfill"
	for i := range 3 {
		cmd, _ := s.start(t, "migrate", []string{"up", "resume", "resume"}[i])
		before := s.ask(t, "a", done)
		require.Eventually(t, func() bool { return s.ask(t, "a", done) > before }, time.Minute, 20*time.Millisecond)
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
	}
	require.Less(t, s.ask(t, "a", done), customers)
	s.must(t, "migrate", "resume")
	require.Equal(t, customers, s.ask(t, "a", "select count(*) from public.customers where seen = 1 and (select count(*) from public.customers) = "+fmt.Sprint(customers)))
	require.Equal(t, customers, s.ask(t, "a", done))
	require.Contains(t, s.must(t, "migrate", "plan"), "up to date\n")
}
