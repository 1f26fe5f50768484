package router_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

func TestAdmin(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, testhouse.Options{})
	var log bytes.Buffer
	r := n.Router(t, one, func(cfg *router.Config) { cfg.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	for _, reason := range []string{"", " ", "\t\n"} {
		_, err := r.Admin(reason)
		require.ErrorIs(t, err, router.ErrRefused)
	}
	admin, err := r.Admin("ticket 4711")
	require.NoError(t, err)

	shared := n.here[placement.ModelShared].Home.Database
	require.NoError(t, admin.Tx(t.Context(), "a", shared, router.TxOptions{}, func(ctx context.Context, tx *router.Tx) error {
		require.Equal(t, []string{email(n.here[placement.ModelShared]), email(n.next(placement.ModelShared))}, emails(t, tx), "every tenant's")
		_, err := tx.Exec(ctx, "insert into customers (tenant_id, email, name) values ($1, 'admin@example.com', '')", n.here[placement.ModelShared].Tenant.String())
		require.NoError(t, err)
		_, err = tx.Exec(ctx, "commit")
		require.ErrorIs(t, err, router.ErrRefused)
		return nil
	}))
	require.Contains(t, emails(t, r.Tenant(n.here[placement.ModelShared].Tenant)), "admin@example.com")
	require.Contains(t, log.String(), "ticket 4711")

	reasons := func() (count int) {
		super := n.Super(t, shared)
		require.NoError(t, super.QueryRow(t.Context(), "select count(*) from landlord.admin_log where login = 'landlord_admin' and reason = 'ticket 4711'").Scan(&count))
		return count
	}
	require.Equal(t, 1, reasons())
	require.ErrorIs(t, admin.Tx(t.Context(), "a", shared, router.TxOptions{ReadOnly: true}, func(ctx context.Context, tx *router.Tx) error {
		_, err := tx.Exec(ctx, "delete from customers")
		require.True(t, pgerr.Is(err, pgerr.ReadOnlyTransaction), "%v", err)
		return nil
	}), router.ErrRolledBack)
	require.Equal(t, 1, reasons(), "who cannot write is not logged beside the data")

	require.ErrorIs(t, admin.Tx(t.Context(), "a", shared, router.TxOptions{}, func(_ context.Context, tx *router.Tx) error {
		_, err := tx.Exec(t.Context(), "delete from customers")
		require.NoError(t, err)
		return errBoom
	}), errBoom)
	require.Len(t, emails(t, r.Tenant(n.next(placement.ModelShared).Tenant)), 1)

	require.ErrorContains(t, admin.Tx(t.Context(), "a", "nowhere", router.TxOptions{}, nil), "nowhere")
	require.ErrorIs(t, admin.Tx(t.Context(), "zz", shared, router.TxOptions{}, nil), placement.ErrUnknownCluster)
	require.NoError(t, admin.Tx(t.Context(), "a", n.here[placement.ModelDatabase].Home.Database, router.TxOptions{}, func(_ context.Context, tx *router.Tx) error {
		require.Equal(t, []string{email(n.here[placement.ModelDatabase])}, emails(t, tx))
		return nil
	}))
	require.ErrorIs(t, admin.Tx(t.Context(), "a", shared, router.TxOptions{}, func(ctx context.Context, tx *router.Tx) error {
		return admin.Tx(ctx, "a", shared, router.TxOptions{}, nil)
	}), router.ErrInTx)
}
