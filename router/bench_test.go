package router_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// BenchmarkStatement compares one warm statement through the router, in each model, with what an application would write
// by hand: a filter and nothing else, or a setting and a policy in a transaction of four calls.
func BenchmarkStatement(b *testing.B) {
	h := testhouse.New(b, testhouse.Options{})
	r := h.Router(b)
	const q = "select name from customers where email = $1"
	var shared placement.Placement
	for _, m := range models {
		p := h.Add(b, "bench-"+string(m), m, "a")
		if m == placement.ModelShared {
			shared = p
		}
		db := r.Tenant(p.Tenant)
		_, err := db.Exec(b.Context(), insertCustomer, "bench@example.com")
		require.NoError(b, err)
		b.Run("router/"+string(m), func(b *testing.B) {
			var name string
			for b.Loop() {
				if err := db.QueryRow(b.Context(), q, "bench@example.com").Scan(&name); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("router-tx-of-3/"+string(m), func(b *testing.B) {
			var name string
			for b.Loop() {
				err := db.Tx(b.Context(), func(ctx context.Context, tx *router.Tx) error {
					for range 3 {
						if err := tx.QueryRow(ctx, q, "bench@example.com").Scan(&name); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	conn, err := pgx.Connect(b.Context(), h.Server.DSN)
	require.NoError(b, err)
	require.NoError(b, conn.Close(b.Context()))
	cfg, err := pgx.ParseConfig(h.Server.DSN)
	require.NoError(b, err)
	cfg.Database = shared.Home.Database
	raw, err := pgx.ConnectConfig(b.Context(), cfg)
	require.NoError(b, err)
	defer raw.Close(context.WithoutCancel(b.Context()))
	const filtered = "select name from customers where tenant_id = $1 and email = $2"
	b.Run("raw/filter", func(b *testing.B) {
		var name string
		for b.Loop() {
			if err := raw.QueryRow(b.Context(), filtered, shared.Tenant.String(), "bench@example.com").Scan(&name); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("raw/tx-of-3", func(b *testing.B) {
		var name string
		for b.Loop() {
			tx, err := raw.Begin(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			for range 3 {
				if err := tx.QueryRow(b.Context(), filtered, shared.Tenant.String(), "bench@example.com").Scan(&name); err != nil {
					b.Fatal(err)
				}
			}
			if err := tx.Commit(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("raw/four-calls", func(b *testing.B) {
		var name string
		for b.Loop() {
			tx, err := raw.Begin(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if _, err := tx.Exec(b.Context(), "select set_config('app.tenant', $1, true)", shared.Tenant.String()); err != nil {
				b.Fatal(err)
			}
			if err := tx.QueryRow(b.Context(), filtered, shared.Tenant.String(), "bench@example.com").Scan(&name); err != nil {
				b.Fatal(err)
			}
			if err := tx.Commit(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
