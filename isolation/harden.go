package isolation

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
)

// Measure is one line of hardening: functions of PostgreSQL's own that the public may call, and the application has no use for.
type Measure struct {
	Name string
	Why  string // what the application could do with them
	// functions is a condition on pg_proc p: which they are.
	functions string
}

// Measures are what Harden takes. Each can be refused by a platform that gives nobody a superuser, and the others hold all the same.
var Measures = []Measure{
	{
		"activity", "read the SQL of other sessions of the same login, with other tenants' values in it",
		`p.proname in ('pg_stat_get_activity', 'pg_stat_get_backend_activity', 'pg_stat_get_backend_client_addr', 'pg_stat_get_backend_client_port')`,
	},
	{
		"statements", "read the statements and cursors that another tenant's transaction left on the connection",
		`p.proname in ('pg_prepared_statement', 'pg_cursor')`,
	},
	{
		"xml", "run a string as a query, past whoever reads the SQL that the application sends",
		`p.proname ~ '^(query|table|schema|database|cursor)_to_xml' or p.proname = 'ts_stat'`,
	},
	{
		"snapshots", "see the present of another session, its prepared transactions, and its memory",
		`p.proname in ('pg_export_snapshot', 'pg_prepared_xact', 'pg_log_backend_memory_contexts')`,
	},
	{
		"stream", "write messages into the change stream by which a tenant is moved",
		`p.proname = 'pg_logical_emit_message'`,
	},
	{
		"notify", "send what is built by a query to sessions of other tenants",
		`p.proname = 'pg_notify'`,
	},
	{
		"locks", "hold a lock that another tenant's transactions wait for",
		`p.proname ~ '^pg_(try_)?advisory_(xact_)?(un)?lock'`,
	},
	{
		"sessions", "end the sessions and statements of other tenants",
		`p.proname in ('pg_cancel_backend', 'pg_terminate_backend')`,
	},
	{
		"large objects", "keep what belongs to the login and not to a tenant",
		`p.proname ~ '^lo_' and p.proname not in ('lo_import', 'lo_export') or p.proname in ('loread', 'lowrite')`,
	},
}

// HardenState is what became of a measure.
type HardenState string

// What becomes of a measure.
const (
	HardenDone    HardenState = "done"    // taken now; with undo: taken back now
	HardenAlready HardenState = "already" // so before; the mode of isolation may have taken it
	HardenRefused HardenState = "refused" // the server does not let this login
	HardenWould   HardenState = "would"   // only looked: it would be done
)

// Hardening is one measure in one database.
type Hardening struct {
	Measure Measure
	State   HardenState
	Err     error // refused: what the server said
}

// those lists a measure's functions that are open to the public ($1), or closed by a measure. What landlord_migrator was granted was
// closed by the mode of isolation, which opens it again itself.
const those = `
select p.oid::regprocedure::text
  from pg_catalog.pg_proc p
 where p.pronamespace = 'pg_catalog'::regnamespace and (%s)
   and case when $1 then p.proacl is null or exists (select from aclexplode(p.proacl) a where a.grantee = 0)
            else exists (select from aclexplode(p.proacl) a where a.grantee = 'landlord_owner'::regrole)
             and not exists (select from aclexplode(p.proacl) a where a.grantee in (0, 'landlord_migrator'::regrole)) end
 order by 1`

// Harden takes from the public what Measures name, in conn's database, and gives it to landlord's own roles and to pg_monitor; undo
// gives it back. look changes nothing. A measure that the server refuses does not keep the others from being taken, and is no error.
func Harden(ctx context.Context, conn *pgx.Conn, undo, look bool) ([]Hardening, error) {
	var all []Hardening
	for _, m := range Measures {
		h := Hardening{Measure: m}
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) {
			h.State, err = m.take(ctx, tx, undo, look)
			return err
		})
		switch {
		case pgerr.Is(err, pgerr.InsufficientPrivilege), errors.Is(err, errNotOwner):
			h.State, h.Err = HardenRefused, err
		case err != nil:
			return all, fmt.Errorf("harden %s: %w", m.Name, err)
		}
		all = append(all, h)
	}
	return all, nil
}

var errNotOwner = errors.New("only its owner, a superuser, decides who may call it")

// holders may call what was taken from the public.
const holders = "landlord_guard, landlord_owner, landlord_admin, pg_monitor"

func (m Measure) take(ctx context.Context, tx pgx.Tx, undo, look bool) (HardenState, error) {
	// Two at once would update the same rows of pg_proc, as an Install does too.
	if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('landlord install', 0))`); err != nil {
		return "", err
	}
	rows, err := tx.Query(ctx, fmt.Sprintf(those, m.functions), !undo)
	if err != nil {
		return "", err
	}
	functions, err := pgx.CollectRows(rows, pgx.RowTo[string])
	switch {
	case err != nil:
		return "", err
	case len(functions) == 0:
		return HardenAlready, nil
	case look:
		return HardenWould, nil
	}
	for _, f := range functions {
		steps := []string{"revoke execute on function " + f + " from public", "grant execute on function " + f + " to " + holders}
		if undo {
			steps = []string{"revoke execute on function " + f + " from " + holders, "grant execute on function " + f + " to public"}
		}
		for _, sql := range steps {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return "", err
			}
		}
		// PostgreSQL only warns who may not grant.
		var open bool
		const q = `select proacl is null or exists (select from aclexplode(proacl) a where a.grantee = 0) from pg_proc where oid = $1::regprocedure`
		if err := tx.QueryRow(ctx, q, f).Scan(&open); err != nil {
			return "", err
		}
		if open != undo {
			return "", fmt.Errorf("function %s: %w", f, errNotOwner)
		}
	}
	return HardenDone, nil
}

// Hardened tells whether Harden has nothing left to do in conn's database but what was refused before: one measure that no mode takes
// by itself says it.
func Hardened(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var yes bool
	const q = `
select bool_and(p.proacl is not null and not exists (select from aclexplode(p.proacl) a where a.grantee = 0))
  from pg_catalog.pg_proc p where p.pronamespace = 'pg_catalog'::regnamespace and p.proname = 'pg_stat_get_activity'`
	if err := conn.QueryRow(ctx, q).Scan(&yes); err != nil {
		return false, fmt.Errorf("look whether the database is hardened: %w", err)
	}
	return yes, nil
}
