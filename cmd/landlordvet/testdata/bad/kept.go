package bad

import (
	"context"

	"github.com/landlord-go/landlord/router"
)

type unit struct{ tx *router.Tx }

func kept(ctx context.Context, db *router.DB, out chan *router.Tx) error {
	var last *router.Tx
	var all []*router.Tx
	var u unit
	err := db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
		last = tx             // want `tx is kept beyond its callback`
		all = append(all, tx) // want `tx is kept beyond its callback`
		u.tx = tx             // want `tx is kept beyond its callback`
		u = unit{tx: tx}      // want `tx is kept beyond its callback`
		out <- tx             // want `tx is sent out of its callback`
		go func() {           // want `the goroutine uses tx`
			_, _ = tx.Exec(ctx, "select 1")
		}()
		return nil
	})
	if err != nil {
		return err
	}
	_, err = last.Exec(ctx, "select 1")
	return err
}
