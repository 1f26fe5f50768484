package bad

import (
	"context"
	"net/http"

	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

var everybody = context.Background()

func (s *Service) handle(_ http.ResponseWriter, req *http.Request) {
	go func() {
		ctx := context.Background() // want `context.Background loses the tenant`
		_, _ = s.Router.FromContext(ctx).Exec(ctx, "update orders set status = 'paid'")
	}()
	_, _ = s.Router.FromContext(req.Context()).Exec(context.TODO(), "select 1") // want `context.TODO loses the tenant`
}

func (s *Service) later(ctx context.Context, run func(func())) {
	run(func() {
		_, _ = s.Router.FromContext(context.Background()).Exec(ctx, "select 1") // want `context.Background loses the tenant`
	})
	_, _ = s.Router.FromContext(s.Ctx).Exec(ctx, "select 1")     // want `Ctx is another context than that of the call at hand`
	_, _ = s.Router.FromContext(ctx).Exec(everybody, "select 1") // want `everybody is the same context for all tenants`
}

func (s *Service) each(ctx context.Context, all func(func(context.Context, tenant.ID) error) error) error {
	db := s.Router.FromContext(ctx)
	return all(func(ctx context.Context, id tenant.ID) error {
		_, err := db.Exec(ctx, "update orders set status = 'paid'") // want `db is the handle of the tenant outside, and this function is called for id`
		return err
	})
}

func (s *Service) allOf(ctx context.Context, ids []tenant.ID, byTenant map[tenant.ID]string) error {
	db := s.Router.FromContext(ctx)
	for _, id := range ids {
		if _, err := db.Exec(ctx, "update orders set status = 'paid'"); err != nil { // want `db is the handle of the tenant outside, and this loop goes over tenants`
			return err
		}
		_, _ = s.Router.Tenant(id).Exec(ctx, "select 1")
	}
	for i := range ids {
		go func() {
			_, _ = db.Exec(ctx, "select $1::int", i) // want `db is the handle of the tenant outside, and this loop goes over tenants`
		}()
	}
	for id, status := range byTenant {
		one := s.Router.Tenant(id)
		_, _ = one.Exec(ctx, "update orders set status = $1", status)
		_, _ = db.Exec(ctx, "update orders set status = $1", status) // want `db is the handle of the tenant outside, and this loop goes over tenants`
	}
	return nil
}

func (s *Service) around(outer context.Context, db *router.DB) error {
	return db.Tx(outer, func(ctx context.Context, tx *router.Tx) error {
		_, err := tx.Exec(outer, "select 1") // want `outer is the context around the transaction`
		return err
	})
}
