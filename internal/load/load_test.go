package load_test

import (
	"context"
	"crypto/rand"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/faultnet"
	"github.com/landlord-go/landlord/internal/load"
	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestUndisturbedNothingIsLostInAnyModel(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	r := h.Router(t)
	for _, model := range []placement.Model{placement.ModelShared, placement.ModelSchema, placement.ModelDatabase} {
		t.Run(string(model), func(t *testing.T) {
			t.Parallel()
			p := h.Add(t, "t-"+string(model), model, "a")
			got, err := load.New(load.Config{DB: r.Tenant(p.Tenant), Writers: 4, Length: 500 * time.Millisecond}).Run(t.Context())
			require.NoError(t, err)
			require.True(t, got.Clean(), "%+v", got)
			require.Positive(t, got.Acked)
			require.Positive(t, got.Reads)
			require.Zero(t, got.Unknown)
			require.Empty(t, got.Findings)
			require.Positive(t, got.LongestGapMS)
		})
	}
}

func TestWhatIsTakenAwayOrDoneTwiceIsFound(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	r := h.Router(t)
	for name, harm := range map[string]struct {
		sql  string
		lost bool // else doubled
	}{
		"a line is gone":                       {"delete from order_lines", true},
		"a line has an older quantity":         {"update order_lines set quantity = 1 where quantity > 1", true},
		"a customer is as he was before":       {"update customers set name = name || ' before'", true},
		"a text is missing":                    {"update order_lines set product = ''", true},
		"a quantity was raised twice":          {"update order_lines set quantity = quantity + 1", false},
		"an order is there twice":              {"insert into orders (tenant_id, customer_id, currency) select tenant_id, id, 'EUR' from customers where email not like '%journal'", false},
		"a customer is there whom nobody made": {"insert into customers (tenant_id, email, name) select tenant_id, replace(email, 'journal', 'x'), name from customers where email like '%journal'", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := h.Add(t, "t-"+strings.ToLower(rand.Text()), placement.ModelSchema, "a")
			db := h.Super(t, p.Home.Database)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			l := load.New(load.Config{DB: r.Tenant(p.Tenant), Writers: 2})
			done := make(chan load.Result, 1)
			go func() {
				got, err := l.Run(ctx)
				require.NoError(t, err)
				done <- got
			}()
			raised := "select exists (select from " + p.Home.Schema + ".order_lines where quantity > 1)"
			require.Eventually(t, func() (found bool) {
				require.NoError(t, db.QueryRow(ctx, raised).Scan(&found))
				return found
			}, time.Minute, 5*time.Millisecond)
			// The writers cannot write over the harm before they are told to stop.
			var tx pgx.Tx
			for {
				var err error
				tx, err = db.Begin(ctx)
				require.NoError(t, err)
				_, err = tx.Exec(ctx, "set local search_path = "+p.Home.Schema)
				require.NoError(t, err)
				_, err = tx.Exec(ctx, "lock table customers, orders, order_lines in exclusive mode")
				if err == nil {
					break
				}
				require.True(t, pgerr.Is(err, "40P01"), "%v", err) // the writers lock in another order
				require.NoError(t, tx.Rollback(ctx))
			}
			tag, err := tx.Exec(ctx, harm.sql)
			require.NoError(t, err)
			require.Positive(t, tag.RowsAffected())
			stop()
			require.NoError(t, tx.Commit(t.Context()))
			got := <-done
			require.Equal(t, harm.lost, got.Lost > 0, "%+v", got)
			if !harm.lost {
				require.Positive(t, got.Doubled, "%+v", got)
			}
			require.NotEmpty(t, got.Findings)
		})
	}
}

func TestAnOutcomeThatIsUnknownIsLookedInto(t *testing.T) {
	t.Parallel()
	var proxy *faultnet.Proxy
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}, Endpoint: func(_, host string, port int) (string, int) {
		proxy = faultnet.New(t, net.JoinHostPort(host, strconv.Itoa(port)))
		host, text, err := net.SplitHostPort(proxy.Addr())
		require.NoError(t, err)
		port, err = strconv.Atoi(text)
		require.NoError(t, err)
		return host, port
	}})
	p := h.Add(t, "t", placement.ModelShared, "a")
	r := h.Router(t)
	var acked, unknown int64
	for between := 100 * time.Millisecond; acked == 0 || unknown == 0; between *= 2 { // a slow machine acknowledges nothing in less
		ctx, stop := context.WithCancel(t.Context())
		l := load.New(load.Config{DB: r.Tenant(p.Tenant), Writers: 8})
		done := make(chan load.Result, 1)
		go func() {
			got, err := l.Run(ctx)
			require.NoError(t, err)
			done <- got
		}()
		require.Eventually(t, func() bool { return l.TakeGap() > 0 }, time.Minute, 5*time.Millisecond, "at work")
		for range 20 {
			time.Sleep(between) // cuts come at any moment
			proxy.Cut()
			proxy.Restore()
		}
		stop()
		got := <-done
		require.Zero(t, got.Lost, "%+v", got)
		require.Zero(t, got.Doubled, "%+v", got)
		acked += got.Acked
		unknown += got.Unknown
	}
}

func TestAHomeWithOtherTablesIsRefused(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	p := h.Add(t, "t", placement.ModelDatabase, "a")
	h.SuperExec(t, p.Home.Database, "alter table order_lines rename to lines")
	_, err := load.New(load.Config{DB: h.Router(t).Tenant(p.Tenant)}).Run(t.Context())
	require.ErrorIs(t, err, load.ErrTables)
}
