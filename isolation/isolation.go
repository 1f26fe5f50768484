// Package isolation keeps tenants apart inside PostgreSQL: the roles, the objects beside the data (schema landlord), the one
// door to a tenant's rows (landlord.enter), and the making and removing of homes in the three models.
//
// It guarantees that a transaction which has not entered a tenant sees no tenant's row, and gets an error rather than an
// empty result; that entering is refused by the data itself when the tenant is not open there at the caller's epoch; and
// that a table is protected in the transaction that creates it.
//
// It knows one database at a time. Where tenants live, and which connection leads there, is left to others.
package isolation

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// The roles of an installation on each server. The names are fixed: policies and grants refer to them.
const (
	OwnerRole    = "landlord_owner"    // owns the application's schemas and tables; cannot log in
	GuardRole    = "landlord_guard"    // owns enter, the fence and the seal keys; cannot log in
	AppRole      = "landlord_app"      // login of the application in shared and schema homes; no power of its own
	AdminRole    = "landlord_admin"    // login for work across tenants; BYPASSRLS
	MigratorRole = "landlord_migrator" // login for schema changes; BYPASSRLS, inherits the owner
)

// SharedSchema is where the application's tables lie in shared and database homes.
const SharedSchema = "public"

// Mode is how the tenant of a transaction is kept where policies read it.
type Mode string

// The modes, weakest first. What each stops is told in docs/guarantees.md.
const (
	Plain     Mode = "plain"      // an ordinary setting: stops forgotten filters
	Locked    Mode = "locked"     // the same, and no function can write it: stops injection inside one statement
	SealedMAC Mode = "sealed-mac" // a signed setting, checked in every statement: stops switching tenants; needs no superuser
	Sealed    Mode = "sealed"     // a setting that only enter can write: stops switching tenants; PostgreSQL 15 or newer
)

// modeFiles lists the SQL files, below migrations/home/modes, that make each mode.
var modeFiles = map[Mode][]string{
	Plain:     {"plain.sql"},
	Locked:    {"plain.sql", "locked.sql"},
	SealedMAC: {"mac.sql", "sealed-mac.sql"},
	Sealed:    {"mac.sql", "sealed.sql"},
}

// ParseMode reads a mode's name.
func ParseMode(s string) (Mode, error) {
	if _, ok := modeFiles[Mode(s)]; !ok {
		return "", fmt.Errorf("read isolation mode %q: use sealed, sealed-mac, locked or plain", s)
	}
	return Mode(s), nil
}

// needsToken tells whether enter checks a token in this mode.
func (m Mode) needsToken() bool { return m == Sealed || m == SealedMAC }

// ChooseMode returns the strongest mode that conn's login can install on its server, and why no stronger one.
func ChooseMode(ctx context.Context, conn *pgx.Conn) (mode Mode, why string, err error) {
	super, version, err := power(ctx, conn)
	switch {
	case err != nil:
		return "", "", err
	case version < 150000:
		return SealedMAC, fmt.Sprintf("server version %d: sealed needs PostgreSQL 15 or newer", version/10000), nil
	case !super:
		return SealedMAC, "the login is no superuser, and only one can grant the sealed register", nil
	}
	return Sealed, "the login is a superuser on PostgreSQL 15 or newer", nil
}

// checkMode refuses a mode that conn's login cannot install.
func checkMode(ctx context.Context, conn *pgx.Conn, mode Mode) error {
	if mode != Sealed && mode != Locked {
		return nil
	}
	super, version, err := power(ctx, conn)
	switch {
	case err != nil:
		return err
	case !super:
		return fmt.Errorf("install mode %s: the operator login is no superuser; give one, or choose mode sealed-mac", mode)
	case mode == Sealed && version < 150000:
		return fmt.Errorf("install mode sealed: server version %d is older than 15; choose mode sealed-mac", version/10000)
	}
	return nil
}

// power reads whether conn's login is a superuser, and the server's version number (150018 for 15.18).
func power(ctx context.Context, conn *pgx.Conn) (super bool, version int, err error) {
	const q = `select rolsuper, current_setting('server_version_num')::int from pg_roles where rolname = current_user`
	if err := conn.QueryRow(ctx, q).Scan(&super, &version); err != nil {
		return false, 0, fmt.Errorf("read the login's rights: %w", err)
	}
	return super, version, nil
}

// quote quotes an SQL identifier.
func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
