package router_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

func TestSavepointsUndoWhatIsUnderThemAndNothingElse(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.each(t, one, func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		fail := func(ctx context.Context, tx *router.Tx) error {
			_, err := tx.Exec(ctx, "select 1 / 0")
			return err
		}
		require.NoError(t, db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
			// As the first statement of the transaction.
			require.NoError(t, tx.Savepoint(ctx, func(_ context.Context, tx *router.Tx) error {
				addCustomer(t, tx, "first@example.com")
				return nil
			}))
			require.Error(t, tx.Savepoint(ctx, fail))
			require.ErrorIs(t, tx.Savepoint(ctx, func(ctx context.Context, tx *router.Tx) error {
				addCustomer(t, tx, "undone@example.com")
				require.NoError(t, tx.Savepoint(ctx, func(_ context.Context, tx *router.Tx) error {
					addCustomer(t, tx, "undone-too@example.com")
					return nil
				}))
				return errBoom
			}), errBoom)
			require.NoError(t, tx.Savepoint(ctx, func(ctx context.Context, tx *router.Tx) error {
				addCustomer(t, tx, "outer@example.com")
				require.ErrorIs(t, tx.Savepoint(ctx, func(_ context.Context, tx *router.Tx) error {
					addCustomer(t, tx, "inner@example.com")
					return errBoom
				}), errBoom)
				return nil
			}))
			require.PanicsWithValue(t, "argh", func() {
				_ = tx.Savepoint(ctx, func(_ context.Context, tx *router.Tx) error {
					addCustomer(t, tx, "panic@example.com")
					panic("argh")
				})
			})
			require.ErrorIs(t, tx.Savepoint(ctx, func(ctx context.Context, tx *router.Tx) error {
				addCustomer(t, tx, "passed-over@example.com")
				require.Error(t, fail(ctx, tx))
				return nil
			}), router.ErrRolledBack)
			return nil
		}))
		require.Equal(t, []string{"first@example.com", email(p), "outer@example.com"}, emails(t, db))
		n.requireClean(t, r, p)
	})
}

func TestASavepointOutlivesItsContext(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	n.each(t, one, func(t *testing.T, r *router.Router, p placement.Placement) {
		db := r.Tenant(p.Tenant)
		require.NoError(t, db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
			addCustomer(t, tx, "before@example.com")
			ctx, cancel := context.WithCancel(ctx)
			require.ErrorIs(t, tx.Savepoint(ctx, func(ctx context.Context, tx *router.Tx) error {
				addCustomer(t, tx, "under@example.com")
				cancel()
				_, err := tx.Exec(ctx, "select 1")
				return err
			}), context.Canceled)
			return nil
		}))
		require.Equal(t, []string{"before@example.com", email(p)}, emails(t, db))
		n.requireClean(t, r, p)
	})
}
