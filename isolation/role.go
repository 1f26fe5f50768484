package isolation

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
)

// Passwords of the logins that EnsureRoles makes. ASCII only.
type Passwords struct {
	App, Admin, Migrator string
	// Installation and Cluster are whose logins they are. Empty: whoever's, and nobody is asked.
	Installation, Cluster string
}

// ErrForeignRoles reports a server whose roles serve another installation or cluster with other passwords.
var ErrForeignRoles = errors.New("the server's landlord roles serve somebody else")

// role is one role as it must be.
type role struct {
	name       string
	attributes string
	password   string // of a login; empty: NOLOGIN
}

// serverRoles are the roles of every server.
func serverRoles(pw Passwords) []role {
	return []role{
		{name: OwnerRole, attributes: "nologin nobypassrls"},
		{name: GuardRole, attributes: "nologin nobypassrls"},
		{name: AppRole, attributes: "login noinherit nobypassrls", password: pw.App},
		{name: AdminRole, attributes: "login noinherit bypassrls", password: pw.Admin},
		{name: MigratorRole, attributes: "login inherit bypassrls", password: pw.Migrator},
	}
}

// dedicatedLogin is the login of one dedicated database.
func dedicatedLogin(name, password string) role {
	return role{name: name, attributes: "login noinherit nobypassrls", password: password}
}

// EnsureRoles makes the installation's roles on conn's server, with their passwords, or corrects them. It returns what it
// changed, nothing when all was so already. Roles belong to the server: any database will do. Where they serve another
// installation or cluster, whose services a new password would shut out, it is ErrForeignRoles and all stays as it is;
// those with the same passwords share them.
func EnsureRoles(ctx context.Context, conn *pgx.Conn, mode Mode, pw Passwords) (changed []string, err error) {
	if err := checkMode(ctx, conn, mode); err != nil {
		return nil, err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		changed = nil
		if err := lockRoles(ctx, tx); err != nil {
			return err
		}
		roles := serverRoles(pw)
		marked, err := checkOwner(ctx, tx, roles, pw)
		if err != nil {
			return err
		}
		for _, r := range roles {
			did, err := ensureRole(ctx, tx, r)
			if err != nil {
				return err
			}
			changed = append(changed, did...)
		}
		if pw.Installation != "" && !marked {
			if _, err := tx.Exec(ctx, "comment on role "+AppRole+" is "+literal(pw.mark())); err != nil {
				return fmt.Errorf("mark role %s: %w", AppRole, err)
			}
		}
		did, err := grantRoles(ctx, tx, mode)
		changed = append(changed, did...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return changed, nil
}

// mark is the comment on the application's login that says whose the roles of the server are.
func (pw Passwords) mark() string {
	return mark("installation " + pw.Installation + " cluster " + pw.Cluster)
}

// checkOwner refuses roles that serve somebody else with other passwords. It tells whether they are marked.
func checkOwner(ctx context.Context, tx pgx.Tx, roles []role, pw Passwords) (marked bool, err error) {
	const q = `
select coalesce(shobj_description(oid, 'pg_authid'), ''), has_table_privilege('pg_authid', 'select')
  from pg_roles where rolname = $1`
	var owner string
	var readable bool
	err = tx.QueryRow(ctx, q, AppRole).Scan(&owner, &readable)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read the mark of role %s: %w", AppRole, err)
	case owner == "", pw.Installation == "", owner == pw.mark():
		return owner != "", nil
	}
	same := true
	if readable {
		for _, r := range roles {
			if r.password == "" {
				continue
			}
			var stored *string
			if err := tx.QueryRow(ctx, `select max(rolpassword) from pg_authid where rolname = $1`, r.name).Scan(&stored); err != nil {
				return false, fmt.Errorf("read the password verifier of %s: %w", r.name, err)
			}
			same = same && stored != nil && scramMatches(*stored, r.password)
		}
	} else { // only a superuser sees; clusters of one installation are taken at their word
		same = strings.HasPrefix(owner, mark("installation "+pw.Installation+" cluster "))
	}
	if !same {
		return false, fmt.Errorf("%w: role %s is marked %q, and setting passwords would shut its services out: use a server of "+
			"its own, or the same secrets for both; if that one is gone for good: comment on role %[2]s is null",
			ErrForeignRoles, AppRole, owner)
	}
	return true, nil
}

// loginMark says of a login that landlord made it for a dedicated database.
var loginMark = mark("login of a dedicated database")

// EnsureLogin makes the login of one dedicated database, or corrects it. A login of that name that landlord did not make is
// ErrForeign.
func EnsureLogin(ctx context.Context, conn *pgx.Conn, login, password string) (changed []string, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := lockRoles(ctx, tx); err != nil {
			return err
		}
		exists, err := findLogin(ctx, tx, login)
		if err != nil {
			return err
		}
		changed, err = ensureRole(ctx, tx, dedicatedLogin(login, password))
		if err == nil && !exists {
			_, err = tx.Exec(ctx, "comment on role "+quote(login)+" is "+literal(loginMark))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make login %s: %w", login, err)
	}
	return changed, nil
}

// DropLogin removes the login of a dedicated database that is gone already. A login that does not exist is no error; one
// that landlord did not make is ErrForeign.
func DropLogin(ctx context.Context, conn *pgx.Conn, login string) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := lockRoles(ctx, tx); err != nil {
			return err
		}
		exists, err := findLogin(ctx, tx, login)
		if err == nil && exists {
			_, err = tx.Exec(ctx, "drop role "+quote(login))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("drop login %s: %w", login, err)
	}
	return nil
}

func findLogin(ctx context.Context, tx pgx.Tx, login string) (exists bool, err error) {
	const q = `select coalesce(shobj_description(oid, 'pg_authid'), '') from pg_roles where rolname = $1`
	var comment string
	err = tx.QueryRow(ctx, q, login).Scan(&comment)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, err
	case comment != loginMark:
		return false, ErrForeign
	}
	return true, nil
}

// lockRoles serialises role changes of several landlord processes: concurrent ones fail with "tuple concurrently updated".
// Advisory locks are per database, so callers use the same maintenance database.
func lockRoles(ctx context.Context, tx pgx.Tx) error {
	const q = `select pg_advisory_xact_lock(hashtextextended('landlord roles', 0))`
	if _, err := tx.Exec(ctx, q); err != nil {
		return fmt.Errorf("lock the server's roles: %w", err)
	}
	return nil
}

// readRole reads a role as it is. One that does not exist is pgx.ErrNoRows.
func readRole(ctx context.Context, tx pgx.Tx, name string) (tooPowerful bool, attributes string, err error) {
	const q = `
select rolsuper or rolcreaterole or rolcreatedb or rolreplication,
       format('%s %s%s', case when rolcanlogin then 'login' else 'nologin' end,
              case when rolcanlogin then case when rolinherit then 'inherit ' else 'noinherit ' end end,
              case when rolbypassrls then 'bypassrls' else 'nobypassrls' end)
  from pg_roles where rolname = $1`
	err = tx.QueryRow(ctx, q, name).Scan(&tooPowerful, &attributes)
	return tooPowerful, attributes, err
}

func ensureRole(ctx context.Context, tx pgx.Tx, r role) (changed []string, err error) {
	tooPowerful, attributes, err := readRole(ctx, tx, r.name)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		if _, err := tx.Exec(ctx, "create role "+quote(r.name)+" "+r.attributes); err != nil {
			return nil, roleError("create", r, err)
		}
		changed = append(changed, "created role "+r.name)
	case err != nil:
		return nil, fmt.Errorf("read role %s: %w", r.name, err)
	case tooPowerful:
		return nil, fmt.Errorf("role %s may do more than landlord gives it: take SUPERUSER, CREATEROLE, CREATEDB and REPLICATION from it", r.name)
	case attributes != r.attributes:
		if _, err := tx.Exec(ctx, "alter role "+quote(r.name)+" "+r.attributes); err != nil {
			return nil, roleError("alter", r, err)
		}
		changed = append(changed, "corrected role "+r.name)
	}
	joined, err := join(ctx, tx, r.name)
	if err != nil {
		return nil, err
	}
	changed = append(changed, joined...)
	if r.password == "" {
		return changed, nil
	}
	return ensurePassword(ctx, tx, r, changed)
}

// ensurePassword sets r's password unless the server is seen to have it. Only a superuser sees; others set it each time
// and do not call that a change.
func ensurePassword(ctx context.Context, tx pgx.Tx, r role, changed []string) ([]string, error) {
	var readable bool
	if err := tx.QueryRow(ctx, `select has_table_privilege('pg_authid', 'select')`).Scan(&readable); err != nil {
		return nil, fmt.Errorf("read rights: %w", err)
	}
	if readable {
		var stored *string
		if err := tx.QueryRow(ctx, `select rolpassword from pg_authid where rolname = $1`, r.name).Scan(&stored); err != nil {
			return nil, fmt.Errorf("read the password verifier of %s: %w", r.name, err)
		}
		if stored != nil && scramMatches(*stored, r.password) {
			return changed, nil
		}
		if len(changed) == 0 {
			changed = append(changed, "set the password of "+r.name)
		}
	}
	verifier, err := scramVerifier(r.password)
	if err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, "alter role "+quote(r.name)+" password '"+verifier+"'"); err != nil {
		return nil, fmt.Errorf("set the password of %s: %w", r.name, err)
	}
	return changed, nil
}

func roleError(act string, r role, err error) error {
	if pgerr.Is(err, pgerr.InsufficientPrivilege) {
		return fmt.Errorf("%s role %s (%s): the operator login lacks the right; it must be a superuser or, from PostgreSQL 16 on, "+
			"have CREATEROLE and the same attributes itself: %w", act, r.name, r.attributes, err)
	}
	return fmt.Errorf("%s role %s: %w", act, r.name, err)
}

// roleGrant is what a role must have been granted.
type roleGrant struct {
	role                 string
	missing              string // the question whether it is
	grant, done, without string // what makes it so, that it was made, and what is so without
}

func roleGrants(mode Mode) []roleGrant {
	grants := []roleGrant{{
		role:    MigratorRole,
		missing: `select not pg_has_role('landlord_migrator', 'landlord_owner', 'member')`,
		grant:   `grant landlord_owner to landlord_migrator`,
		done:    "made landlord_migrator a member of landlord_owner",
		without: "is no member of landlord_owner: it cannot migrate",
	}}
	if mode == Sealed {
		grants = append(grants, roleGrant{
			role:    GuardRole,
			missing: `select not has_parameter_privilege('landlord_guard', 'backtrace_functions', 'set')`,
			grant:   `grant set on parameter backtrace_functions to landlord_guard`,
			done:    "gave landlord_guard the sealed register",
			without: "may not write the sealed register: nobody can enter a tenant",
		})
	}
	return grants
}

// grantRoles gives the migrator the owner's rights and the guard the sealed register.
func grantRoles(ctx context.Context, tx pgx.Tx, mode Mode) (changed []string, err error) {
	for _, g := range roleGrants(mode) {
		var missing bool
		if err := tx.QueryRow(ctx, g.missing).Scan(&missing); err != nil {
			return nil, fmt.Errorf("read grants: %w", err)
		}
		if !missing {
			continue
		}
		if _, err := tx.Exec(ctx, g.grant); err != nil {
			return nil, fmt.Errorf("%s: %w", g.grant, err)
		}
		changed = append(changed, g.done)
	}
	return changed, nil
}

// join makes the operator a member of a role: only members give objects to it, set its defaults and end its sessions. A
// superuser is as good as a member.
func join(ctx context.Context, tx pgx.Tx, role string) (changed []string, err error) {
	const q = `
select pg_has_role($1, 'usage'), case when current_setting('server_version_num')::int >= 160000 then ' with inherit true' else '' end`
	var member bool
	var option string
	if err := tx.QueryRow(ctx, q, role).Scan(&member, &option); err != nil {
		return nil, fmt.Errorf("read grants: %w", err)
	}
	if member {
		return nil, nil
	}
	grant := "grant " + quote(role) + " to current_user" + option
	if _, err := tx.Exec(ctx, grant); err != nil {
		return nil, fmt.Errorf("%s: %w", grant, err)
	}
	return []string{"made the operator a member of " + role}, nil
}
