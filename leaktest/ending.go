package leaktest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/landlord-go/landlord/router"
)

// traces are what a transaction of the victim tries to leave behind in its session. What is refused leaves nothing.
var traces = []string{
	`set application_name = 'leaktest'`,
	`select set_config('leaktest.trace', 'left', false)`,
	`set search_path = pg_catalog`,
	`set statement_timeout = '12345s'`,
	`prepare leaktest as select 1`,
	`create temp table leaktest (a int)`,
	`declare leaktest cursor with hold for select 1`,
	`listen leaktest`,
	`select pg_advisory_lock(8247)`,
}

// found are queries that find a trace: each counts what must not be there.
var found = map[string]string{
	"a setting":            `select count(*) from (select 1 where current_setting('leaktest.trace', true) = 'left') x`,
	"a time-out":           `select count(*) from (select 1 where current_setting('statement_timeout') = '12345s') x`,
	"a prepared statement": `select count(*) from pg_prepared_statements where name = 'leaktest'`,
	"a temporary table":    `select count(*) from pg_class where relname = 'leaktest' and relpersistence = 't' and pg_table_is_visible(oid)`,
	"a cursor":             `select count(*) from pg_cursors where name = 'leaktest'`,
	"a listener":           `select count(*) from pg_listening_channels() c where c = 'leaktest'`,
}

// endings are the ways in which a transaction of the victim ends.
var endings = map[string]func(ctx context.Context, db *router.DB, work func(context.Context, *router.Tx)) error{
	"commit": func(ctx context.Context, db *router.DB, work func(context.Context, *router.Tx)) error {
		return db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error { work(ctx, tx); return nil })
	},
	"rollback": func(ctx context.Context, db *router.DB, work func(context.Context, *router.Tx)) error {
		return db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error { work(ctx, tx); return errUndo })
	},
	"error": func(ctx context.Context, db *router.DB, work func(context.Context, *router.Tx)) error {
		return db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
			work(ctx, tx)
			_, err := tx.Exec(ctx, "select 1/0")
			return err
		})
	},
	"panic": func(ctx context.Context, db *router.DB, work func(context.Context, *router.Tx)) (err error) {
		defer func() { err = fmt.Errorf("%v", recover()) }()
		return db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error { work(ctx, tx); panic("leaktest") })
	},
	"cancel": func(ctx context.Context, db *router.DB, work func(context.Context, *router.Tx)) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		return db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
			work(ctx, tx)
			cancel()
			_, err := tx.Exec(ctx, "select pg_sleep(10)")
			return err
		})
	},
	"time-out": func(ctx context.Context, db *router.DB, work func(context.Context, *router.Tx)) error {
		return db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
			work(ctx, tx)
			ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			_, err := tx.Exec(ctx, "select pg_sleep(10)")
			return err
		})
	},
	"lost connection": func(ctx context.Context, db *router.DB, work func(context.Context, *router.Tx)) error {
		return db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
			work(ctx, tx)
			_, err := tx.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())") // where that is not revoked
			return err
		})
	},
}

// endings looks, after every way in which a transaction of the victim's can end, what the thief finds on the connections that come
// back. Each is tried several times, since a pool has more than one connection.
func (tr *trial) endings(t *testing.T) {
	const rounds = 3
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			for range rounds {
				for _, trace := range traces {
					worked := false
					err := end(t.Context(), tr.victim, func(ctx context.Context, tx *router.Tx) {
						_ = tx.Savepoint(ctx, func(ctx context.Context, tx *router.Tx) error {
							_, err := tx.Exec(ctx, trace) // refused or not: what is left is looked for
							return err
						})
						worked = true
					})
					if !worked {
						t.Fatalf("a transaction of tenant %s did not begin: %v", tr.victim.Tenant(), err)
					}
					if name == "commit" && err != nil && !errors.Is(err, router.ErrRolledBack) {
						t.Errorf("commit after %s: %v", trace, err)
					}
					tr.search(t, trace)
				}
			}
		})
	}
}

// search looks for traces, in one transaction of the thief's, and with it for rows.
func (tr *trial) search(t *testing.T, trace string) {
	t.Helper()
	err := tr.thief.TxWith(t.Context(), router.TxOptions{ReadOnly: true}, func(ctx context.Context, tx *router.Tx) error {
		for what, q := range found {
			var n int
			err := tx.Savepoint(ctx, func(ctx context.Context, tx *router.Tx) error { return tx.QueryRow(ctx, q).Scan(&n) })
			if err != nil && !refused(err, insufficientPrivilege) { // who may not look, finds nothing
				return fmt.Errorf("look for %s: %w", what, err)
			}
			if n > 0 {
				t.Errorf("tenant %s finds %s that tenant %s left behind: %s", tr.thief.Tenant(), what, tr.victim.Tenant(), trace)
			}
		}
		tr.look(ctx, t, tx, "on a connection that was the victim's")
		return nil
	})
	if err != nil {
		t.Errorf("after %s: %v", trace, err)
	}
}
