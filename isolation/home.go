package isolation

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ErrForeign reports a schema or database of the wanted name that landlord did not make for this purpose. It is left alone.
var ErrForeign = errors.New("exists and was not made for this")

// mark is the comment that says whose a schema or database is. Without it nothing is ever reused or dropped.
func mark(purpose string) string { return "landlord: " + purpose }

// TenantMark is the purpose of a schema or database that belongs to one tenant.
func TenantMark(tenant string) string { return "tenant " + tenant }

// SharedMark is the purpose of a cluster's shared database.
func SharedMark(installation string) string { return "shared database of " + installation }

// CreateSchema makes an empty schema for one tenant in conn's database. One that is there already with the same tenant's
// mark is taken over, so that the making can be resumed; any other is ErrForeign.
func CreateSchema(ctx context.Context, conn *pgx.Conn, schema, tenant string) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := lockSchema(ctx, tx, schema); err != nil {
			return err
		}
		switch state, err := findSchema(ctx, tx, schema, tenant); {
		case err != nil:
			return err
		case state == foreign:
			return ErrForeign
		case state == ours:
			return nil
		}
		var app string
		if err := tx.QueryRow(ctx, `select app_login from landlord.identity`).Scan(&app); err != nil {
			return err
		}
		name := quote(schema)
		for _, sql := range []string{
			"create schema " + name + " authorization landlord_owner",
			"grant usage on schema " + name + " to landlord_admin, " + quote(app),
			"grant usage, create on schema " + name + " to landlord_migrator",
			"comment on schema " + name + " is " + literal(mark(TenantMark(tenant))),
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return forgetVersions(ctx, tx, schema)
	})
	if err != nil {
		return fmt.Errorf("create schema %s: %w", schema, err)
	}
	return nil
}

// DropSchema removes a tenant's schema with all it holds. One without the tenant's mark is ErrForeign; none is no error.
func DropSchema(ctx context.Context, conn *pgx.Conn, schema, tenant string) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := lockSchema(ctx, tx, schema); err != nil {
			return err
		}
		switch state, err := findSchema(ctx, tx, schema, tenant); {
		case err != nil:
			return err
		case state == foreign:
			return ErrForeign
		case state == ours:
			if _, err := tx.Exec(ctx, "drop schema "+quote(schema)+" cascade"); err != nil {
				return err
			}
		}
		return forgetVersions(ctx, tx, schema)
	})
	if err != nil {
		return fmt.Errorf("drop schema %s: %w", schema, err)
	}
	return nil
}

// lockSchema lets one at a time make or drop a schema: a second one would be told that it exists, or exists no more.
func lockSchema(ctx context.Context, tx pgx.Tx, name string) error {
	_, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('landlord schema ' || $1, 0))`, name)
	return err
}

func findSchema(ctx context.Context, tx pgx.Tx, name, tenant string) (presence, error) {
	const q = `select coalesce(obj_description(oid, 'pg_namespace'), '') from pg_namespace where nspname = $1`
	var comment string
	err := tx.QueryRow(ctx, q, name).Scan(&comment)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return absent, nil
	case err != nil:
		return absent, err
	case comment == mark(TenantMark(tenant)):
		return ours, nil
	}
	return foreign, nil
}

// forgetVersions forgets which migrations a schema had that is gone, and how far a backfill had come, with the keys of its
// rows. Left there, they would keep a later one of the same name from being built.
func forgetVersions(ctx context.Context, tx pgx.Tx, schema string) error {
	if _, err := tx.Exec(ctx, `delete from landlord.schema_version where schema = $1`, schema); err != nil {
		return err
	}
	var knows bool // older home objects do not
	err := tx.QueryRow(ctx, `select to_regclass('landlord.backfill') is not null`).Scan(&knows)
	if err == nil && knows {
		_, err = tx.Exec(ctx, `delete from landlord.backfill where schema = $1`, schema)
	}
	return err
}

// CreateDatabase makes an empty database on conn's server, owned by landlord_owner and closed to the public. purpose is
// TenantMark or SharedMark. One that is there already with the same mark is taken over; any other is ErrForeign. It returns
// whether the database is new.
func CreateDatabase(ctx context.Context, conn *pgx.Conn, name, purpose string) (created bool, err error) {
	// CREATE DATABASE runs in no transaction, so the lock is the session's.
	const lock, unlock = `select pg_advisory_lock(hashtextextended('landlord database ' || $1, 0))`,
		`select pg_advisory_unlock(hashtextextended('landlord database ' || $1, 0))`
	if _, err = conn.Exec(ctx, lock, name); err == nil {
		created, err = createDatabase(ctx, conn, name, purpose)
		if _, unlockErr := conn.Exec(context.WithoutCancel(ctx), unlock, name); err == nil {
			err = unlockErr
		}
	}
	if err != nil {
		return false, fmt.Errorf("create database %s: %w", name, err)
	}
	return created, nil
}

// CheckDatabase is ErrForeign when CreateDatabase would be. It changes nothing.
func CheckDatabase(ctx context.Context, conn *pgx.Conn, name, purpose string) error {
	state, err := findDatabase(ctx, conn, name, purpose)
	if err == nil && state == foreign {
		err = ErrForeign
	}
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

func createDatabase(ctx context.Context, conn *pgx.Conn, name, purpose string) (created bool, err error) {
	state, err := findDatabase(ctx, conn, name, purpose)
	switch {
	case err != nil:
		return false, err
	case state == foreign:
		return false, ErrForeign
	case state == ours:
		return false, nil
	case state == absent:
		// From template0, because template1 may hold what is nobody's.
		if _, err := conn.Exec(ctx, "create database "+quote(name)+" template template0 owner landlord_owner"); err != nil {
			return false, err
		}
	}
	for _, sql := range []string{
		"revoke all on database " + quote(name) + " from public",
		"comment on database " + quote(name) + " is " + literal(mark(purpose)),
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return false, err
		}
	}
	return state == absent, nil
}

// DropDatabase removes a database, closing the connections to it. One that was not made for purpose is ErrForeign; none is
// no error.
func DropDatabase(ctx context.Context, conn *pgx.Conn, name, purpose string) error {
	state, err := findDatabase(ctx, conn, name, purpose)
	if err == nil && state == foreign {
		err = ErrForeign
	}
	if err == nil && state != absent {
		_, err = conn.Exec(ctx, "drop database if exists "+quote(name)+" with (force)")
	}
	if err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

// presence is whether a schema or database of a name is there, and whose.
type presence int

const (
	absent   presence = iota
	foreign           // not made for this
	unmarked          // a database of landlord_owner's, without a comment: its making was cut short
	ours
)

func findDatabase(ctx context.Context, conn *pgx.Conn, name, purpose string) (presence, error) {
	const q = `
select coalesce(shobj_description(oid, 'pg_database'), ''), pg_get_userbyid(datdba) = 'landlord_owner'
  from pg_database where datname = $1`
	var comment string
	var owned bool
	err := conn.QueryRow(ctx, q, name).Scan(&comment, &owned)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return absent, nil
	case err != nil:
		return absent, err
	case owned && comment == mark(purpose):
		return ours, nil
	case owned && comment == "":
		return unmarked, nil
	}
	return foreign, nil
}

// literal quotes an SQL string, whatever standard_conforming_strings is.
func literal(s string) string {
	s = strings.ReplaceAll(s, "'", "''")
	if strings.Contains(s, `\`) {
		return "E'" + strings.ReplaceAll(s, `\`, `\\`) + "'"
	}
	return "'" + s + "'"
}
