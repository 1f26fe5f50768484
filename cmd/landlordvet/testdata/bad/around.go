// Package bad makes every mistake that landlordvet knows.
package bad

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/landlord-go/landlord/router"
)

// Service has a router, and a pool beside it.
type Service struct {
	Router *router.Router
	Pool   *pgxpool.Pool
	Ctx    context.Context
}

func open(ctx context.Context, dsn string) error {
	pool, err := pgxpool.New(ctx, dsn) // want `pgxpool.New opens a connection around the router`
	if err != nil {
		return err
	}
	defer pool.Close()
	conn, err := pgx.Connect(ctx, dsn) // want `pgx.Connect opens a connection around the router`
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "delete from orders"); err != nil { // want `Exec goes around the router`
		return err
	}
	db, err := sql.Open("pgx", dsn) // want `sql.Open opens a connection around the router`
	if err != nil {
		return err
	}
	return db.Close()
}

func (s *Service) count(ctx context.Context) (n int, err error) {
	err = s.Pool.QueryRow(ctx, "select count(*) from orders").Scan(&n) // want `QueryRow goes around the router`
	return n, err
}

//landlordvet:allow around
func (s *Service) begin(ctx context.Context) (pgx.Tx, error) {
	return s.Pool.Begin(ctx) // want `Begin goes around the router`
}
