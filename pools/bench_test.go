package pools_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/pools"
)

// What it costs to take an idle connection and give it back, here and in pgxpool, by one caller and by many.
func BenchmarkAcquire(b *testing.B) {
	const conns = 8
	f := newFake(b)
	set, err := pools.New(pools.Config{MaxConns: conns})
	require.NoError(b, err)
	defer set.Close()
	cfg, err := pgxpool.ParseConfig("postgres://somebody@127.0.0.1/something?sslmode=disable")
	require.NoError(b, err)
	cfg.ConnConfig.DialFunc = f.dial
	cfg.MaxConns = conns
	theirs, err := pgxpool.NewWithConfig(b.Context(), cfg)
	require.NoError(b, err)
	defer theirs.Close()

	req := pools.Request{Server: "server", Pool: "pool", Connect: func(ctx context.Context) (*pgconn.PgConn, error) {
		return f.connect(ctx, "pool")
	}}
	fromSet := func(change func(*pools.Request)) func(context.Context) error {
		r := req
		change(&r)
		return func(ctx context.Context) error {
			conn, err := set.Acquire(ctx, r)
			if err == nil {
				conn.Release()
			}
			return err
		}
	}
	for _, way := range []struct {
		name string
		take func(context.Context) error
	}{
		{"pools", fromSet(func(*pools.Request) {})},
		{"pools with client and affinity", fromSet(func(r *pools.Request) { r.Client, r.Affinity = "client", "schema" })},
		{"pgxpool", func(ctx context.Context) error {
			conn, err := theirs.Acquire(ctx)
			if err == nil {
				conn.Release()
			}
			return err
		}},
	} {
		b.Run(way.name+"/one", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, way.take(b.Context()))
			}
		})
		b.Run(way.name+"/many", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := way.take(b.Context()); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
