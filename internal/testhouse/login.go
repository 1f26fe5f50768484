package testhouse

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// Login connects to a database as one of landlord's logins, around the router, for the length of the test. What the database says
// against it is returned.
func (h *House) Login(t testing.TB, database, login string) (*pgx.Conn, error) {
	t.Helper()
	cfg, err := pgx.ParseConfig(pgtest.WithDatabase(h.Server.DSN, database))
	require.NoError(t, err)
	secret := appSecret
	if login == isolation.AdminRole || login == isolation.MigratorRole {
		secret = adminSecret
	}
	cfg.User, cfg.Password = login, placement.DerivePassword(secret, login)
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn, nil
}
