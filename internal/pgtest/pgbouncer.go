package pgtest

import (
	"os"
	"testing"

	"github.com/landlord-go/landlord/internal/pglocal"
)

// RequireBouncerEnv is set to 1 where a machine without PgBouncer fails the tests that need it. LANDLORD_PGBOUNCER names the
// program if it is neither in PATH nor in /usr/sbin.
const RequireBouncerEnv = "LANDLORD_REQUIRE_PGBOUNCER"

// Bouncer is a PgBouncer, for one test.
type Bouncer struct {
	Host string
	Port int

	b *pglocal.Bouncer
}

// PgBouncer starts a PgBouncer before server, in a folder in Scratch. Where the program is missing, NeedBouncer decides.
func PgBouncer(t testing.TB, server Info, cfg pglocal.BouncerConfig) *Bouncer {
	t.Helper()
	NeedBouncer(t)
	cfg.Dir, cfg.Server = Scratch(), server.DSN
	b, err := pglocal.StartBouncer(t.Context(), cfg)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("pgtest: PgBouncer's log ends with:\n%s", b.LogTail())
		}
		if err := b.Close(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return &Bouncer{Host: b.Host, Port: b.Port, b: b}
}

// NeedBouncer ends a test where PgBouncer is missing: root and those who set LANDLORD_REQUIRE_PGBOUNCER=1 see it fail, others
// see it skipped.
func NeedBouncer(t testing.TB) {
	t.Helper()
	_, err := pglocal.FindBouncer()
	switch {
	case err == nil:
	case os.Getenv(RequireBouncerEnv) == "1" || os.Geteuid() == 0:
		t.Fatalf("pgtest: %v", err)
	default:
		t.Skipf("pgtest: %v", err)
	}
}

// Point leads clients that ask for one database to another, at once and under open connections.
func (b *Bouncer) Point(t testing.TB, database, to string) {
	t.Helper()
	if err := b.b.Point(t.Context(), database, to); err != nil {
		t.Fatalf("pgtest: lead PgBouncer elsewhere: %v", err)
	}
}

// Console runs a command of PgBouncer's admin console and returns its rows, by column name.
func (b *Bouncer) Console(t testing.TB, command string) []map[string]string {
	t.Helper()
	rows, err := b.b.Console(t.Context(), command)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return rows
}
