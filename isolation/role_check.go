package isolation

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// RoleFault is a role that is not as [EnsureRoles] and [EnsureLogin] make it.
type RoleFault struct {
	Role    string
	Problem string
	SQL     string // what must be done first, where those refuse to mend it; else empty
}

// CheckRoles compares the installation's roles on conn's server, and the logins of dedicated databases there, with what [EnsureRoles]
// and [EnsureLogin] make of them. It changes nothing. What else has been granted to them is the audit's to find.
func CheckRoles(ctx context.Context, conn *pgx.Conn, mode Mode, logins []string) (faults []RoleFault, err error) {
	roles := serverRoles(Passwords{})
	for _, login := range logins {
		roles = append(roles, dedicatedLogin(login, ""))
	}
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		exists := map[string]bool{}
		for _, r := range roles {
			tooPowerful, attributes, err := readRole(ctx, tx, r.name)
			switch {
			case errors.Is(err, pgx.ErrNoRows):
				faults = append(faults, RoleFault{Role: r.name, Problem: "does not exist"})
				continue
			case err != nil:
				return fmt.Errorf("read role %s: %w", r.name, err)
			case tooPowerful:
				faults = append(faults, RoleFault{
					r.name, "has SUPERUSER, CREATEROLE, CREATEDB or REPLICATION, which pass by what landlord gives it",
					"alter role " + quote(r.name) + " nosuperuser nocreaterole nocreatedb noreplication",
				})
			case attributes != r.attributes:
				faults = append(faults, RoleFault{Role: r.name, Problem: fmt.Sprintf("is %s, and must be %s", attributes, r.attributes)})
			}
			exists[r.name] = true
		}
		for _, g := range roleGrants(mode) {
			if !exists[g.role] || !exists[OwnerRole] {
				continue
			}
			var missing bool
			if err := tx.QueryRow(ctx, g.missing).Scan(&missing); err != nil {
				return fmt.Errorf("read grants: %w", err)
			}
			if missing {
				faults = append(faults, RoleFault{Role: g.role, Problem: g.without})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look at landlord's roles: %w", err)
	}
	return faults, nil
}
