package cutover_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/move/cutover"
	"github.com/landlord-go/landlord/move/table"
	"github.com/landlord-go/landlord/placement"
)

// pass moves the numbers of one sequence to another one by a cutover of a tenant.
func pass(t *testing.T, m *moving, s cutover.Sequence) cutover.Result {
	t.Helper()
	r, err := m.cutover(t, func(cfg *cutover.Config) { cfg.Sequences = []cutover.Sequence{s} }).Run(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = r.Before.Close(context.Background())
		_ = r.After.Close(context.Background())
	})
	return r
}

func value(t *testing.T, conn *pgx.Conn, sql string) (n int64) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&n))
	return n
}

func TestASequenceOfTheTenantsAloneIsTakenPastTheOldOne(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	for name, c := range map[string]struct {
		from, to string // options of the sequences, and how they were used
		next     int64  // of the new one
	}{
		"behind":        {"; select setval('%s', 500)", "", 501 + cutover.Margin},
		"ahead":         {"; select setval('%s', 500)", "; select setval('%s', 9000)", 9001},
		"never used":    {" start 7", " start 7", 7 + cutover.Margin},
		"descending":    {" increment -2 start -1; select setval('%s', -501)", " increment -2 start -1", -503 - 2*cutover.Margin},
		"near its end":  {" as smallint; select setval('%s', 32760)", " as smallint", 0},
		"of large gaps": {" increment 10; select setval('%s', 41)", " increment 10", 51 + 10*cutover.Margin},
	} {
		t.Run(name, func(t *testing.T) {
			m := begin(t, h, placement.ModelSchema, placement.ModelDatabase, "b")
			stop := m.follow(t)
			source, target := m.Super(t, m.from.Home.Database), m.Super(t, m.to.Home.Database)
			seq := func(p placement.Placement, options string, conn *pgx.Conn) table.Sequence {
				name := pgx.Identifier{p.Home.Schema, "numbers"}.Sanitize()
				sql := "create sequence " + name + strings.ReplaceAll(options, "%s", strings.ReplaceAll(name, "'", "''"))
				_, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
				require.NoError(t, err)
				s := table.Sequence{Schema: p.Home.Schema, Name: "numbers"}
				require.NoError(t, conn.QueryRow(t.Context(), "select seqincrement from pg_sequence where seqrelid = $1::text::regclass", name).Scan(&s.Increment))
				return s
			}
			pass(t, m, cutover.Sequence{From: seq(m.from, c.from, source), To: seq(m.to, c.to, target)})
			stop()
			if c.next == 0 {
				_, err := target.Exec(t.Context(), "select nextval('numbers')")
				require.Error(t, err, "it stands at its end")
				return
			}
			require.Equal(t, c.next, value(t, target, "select nextval('numbers')"))
		})
	}
}

// A sequence that others use is never set under them: no number is given out twice, and none that the old home has given.
func TestASharedSequenceNeverGivesANumberTwice(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	for name, given := range map[string]int64{"a few": 5_000, "many": 500_000} {
		t.Run(name, func(t *testing.T) {
			m := begin(t, h, placement.ModelSchema, placement.ModelShared, "b")
			stop := m.follow(t)
			source, target := m.Super(t, m.from.Home.Database), m.Super(t, m.to.Home.Database)
			for conn, at := range map[*pgx.Conn]placement.Placement{source: m.from, target: m.to} {
				_, err := conn.Exec(t.Context(), "create sequence "+pgx.Identifier{at.Home.Schema, "shared_" + string(name[0])}.Sanitize())
				require.NoError(t, err)
			}
			s := cutover.Sequence{
				From: table.Sequence{Schema: m.from.Home.Schema, Name: "shared_" + string(name[0]), Increment: 1},
				To:   table.Sequence{Schema: m.to.Home.Schema, Name: "shared_" + string(name[0]), Increment: 1}, Shared: true,
			}
			sql := pgx.Identifier{s.To.Schema, s.To.Name}.Sanitize()
			_, err := source.Exec(t.Context(), "select setval($1::text::regclass, $2)", pgx.Identifier{s.From.Schema, s.From.Name}.Sanitize(), given)
			require.NoError(t, err)

			ctx, cancel := context.WithCancel(t.Context())
			var others sync.WaitGroup
			var mu sync.Mutex
			times := make(map[int64]int)
			for range 4 {
				conn := m.Super(t, m.to.Home.Database)
				others.Go(func() {
					for ctx.Err() == nil {
						var n int64
						if err := conn.QueryRow(t.Context(), "select nextval('"+sql+"')").Scan(&n); err != nil {
							t.Errorf("take a number: %v", err)
							return
						}
						mu.Lock()
						times[n]++
						mu.Unlock()
					}
				})
			}
			pass(t, m, s)
			after := value(t, target, "select nextval('"+sql+"')")
			cancel()
			others.Wait()
			stop()
			require.Greater(t, after, given)
			for n, k := range times {
				require.Equal(t, 1, k, "number %d", n)
			}
		})
	}
}

// Negative control: without the sequences, the new home gives out numbers that the tenant has already.
func TestWithoutItsSequencesATenantMeetsItsOwnNumbers(t *testing.T) {
	t.Parallel()
	m, db := one(t)
	insert := func(email string) error {
		_, err := db.Exec(t.Context(), "insert into customers (email, name) values ($1, '')", email)
		return err
	}
	require.NoError(t, insert("first@example.com"))
	r, err := m.cutover(t, func(cfg *cutover.Config) { cfg.Sequences = nil }).Run(t.Context())
	require.NoError(t, err)
	require.ErrorContains(t, insert("second@example.com"), "duplicate key")
	m.turn(t, r)

	m, db = one(t)
	require.NoError(t, insert("first@example.com"))
	r, err = m.cutover(t).Run(t.Context())
	require.NoError(t, err)
	require.NoError(t, insert("second@example.com"))
	m.turn(t, r)
}
