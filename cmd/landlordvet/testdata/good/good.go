// Package good does the same work as package bad, without its mistakes.
package good

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

// Service has a router, and nothing beside it that knows tenants' tables.
type Service struct {
	Router *router.Router
	clock  context.Context
}

// migrations reads another database, which has no tenants.
func migrations(ctx context.Context, dsn string) (*pgxpool.Pool, error) {
	//landlordvet:allow around the warehouse has no tenants
	return pgxpool.New(ctx, dsn)
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) // nobody has given it a context
	defer cancel()
	_, _ = migrations(ctx, "")
}

func (s *Service) handle(w http.ResponseWriter, req *http.Request) {
	ctx := context.WithoutCancel(req.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		_, _ = s.Router.FromContext(ctx).Exec(ctx, "update orders set status = 'paid' where status = $1", "open")
	})
	wait.Wait()
	w.WriteHeader(http.StatusNoContent)
}

func (s *Service) each(ctx context.Context, all func(func(context.Context, tenant.ID) error) error) error {
	return all(func(ctx context.Context, id tenant.ID) error {
		db := s.Router.Tenant(id)
		_, err := db.Exec(ctx, "update orders set status = 'paid'")
		return err
	})
}

func (s *Service) allOf(ctx context.Context, ids []tenant.ID) error {
	books := s.Router.FromContext(ctx)
	for _, id := range ids {
		if _, err := s.Router.Tenant(id).Exec(ctx, "update orders set status = 'paid'"); err != nil {
			return err
		}
		if _, err := books.Exec(ctx, "insert into done (tenant) values ($1)", id); err != nil {
			return err
		}
	}
	db := books
	for _, id := range ids {
		db = s.Router.Tenant(id)
		_, _ = db.Exec(ctx, "update orders set status = 'open'")
	}
	for _, status := range []string{"open", "paid"} {
		_, _ = db.Exec(ctx, "delete from orders where status = $1", status)
	}
	return nil
}

func (s *Service) pay(ctx context.Context, id tenant.ID, status string) error {
	return s.Router.Tenant(id).Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
		for _, sql := range []string{"set local statement_timeout = '5s'", "set constraints all deferred"} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, "set local lock_timeout = '1s'"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "select set_config('app.reason', $1, true)", status); err != nil {
			return err
		}
		mine := tx
		return s.lines(ctx, mine, status)
	})
}

const columns = "id, status"

func (s *Service) lines(ctx context.Context, tx *router.Tx, status string) error {
	query := "select " + columns + " from orders"
	if status != "" {
		query += " where status = $1"
	}
	limit := 10
	query += fmt.Sprintf(" limit %d", limit)
	if _, err := tx.Query(ctx, query, status); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, "table "+pgx.Identifier{status}.Sanitize())
	if err != nil {
		return err
	}
	rows.Close()
	_, err = tx.Exec(ctx, generated(), status)
	return err
}

// generated comes from elsewhere: nothing is known of it.
func generated() string { return fmt.Sprint("select ", 1) }

func (s *Service) standard(ctx context.Context) error {
	std := s.Router.SQL()
	defer std.Close()
	_, err := std.ExecContext(ctx, "update orders set status = $1", "paid")
	return err
}
