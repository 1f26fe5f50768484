package bad

import (
	"context"

	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

func (s *Service) nested(ctx context.Context, id tenant.ID) error {
	db := s.Router.Tenant(id)
	return db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
		if _, err := db.Exec(ctx, "update orders set status = 'paid'"); err != nil { // want `Exec on the tenant's handle is no part of the open transaction: use the Tx`
			return err
		}
		var n int
		if err := s.Router.FromContext(ctx).QueryRow(ctx, "select 1").Scan(&n); err != nil { // want `QueryRow on the tenant's handle is no part`
			return err
		}
		return s.Router.Tenant(id).Tx(ctx, func(context.Context, *router.Tx) error { return nil }) // want `Tx on the tenant's handle is no part`
	})
}

func step(ctx context.Context, tx *router.Tx, db *router.DB) error {
	_, err := db.Exec(ctx, "select 1") // want `Exec on the tenant's handle is no part of the open transaction: use the Tx`
	return err
}
