package testhouse

import (
	"testing"

	"github.com/landlord-go/landlord/internal/pglocal"
	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// secrets of the clusters. Roles belong to the server, which tests share: so do their passwords.
const (
	appSecret   = "secret of the tests' application"
	adminSecret = "secret of the tests' admin"
)

// Bouncer puts a PgBouncer in transaction mode, with so many backends for each login and database, between the routers of a
// house that New is about to build and the server.
func (o *Options) Bouncer(t testing.TB, server pgtest.Info, backends int) *pgtest.Bouncer {
	t.Helper()
	b := pgtest.PgBouncer(t, server, pglocal.BouncerConfig{
		PoolSize: backends,
		Users: map[string]string{
			isolation.AppRole:      placement.DerivePassword(appSecret, isolation.AppRole),
			isolation.AdminRole:    placement.DerivePassword(adminSecret, isolation.AdminRole),
			isolation.MigratorRole: placement.DerivePassword(adminSecret, isolation.MigratorRole),
		},
		Session: []string{isolation.MigratorRole},
	})
	o.Endpoint = func(string, string, int) (string, int) { return b.Host, b.Port }
	return b
}
