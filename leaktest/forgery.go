package leaktest

import (
	"context"
	"strings"
	"testing"

	"github.com/landlord-go/landlord/router"
)

// forgeries are attempts to become the victim by SQL. {victim} is its id, {table} one of its tables.
var forgeries = []string{
	`select set_config('landlord.tenant', '{victim}', true)`,
	`select set_config('landlord.tenant', '{victim}', false)`,
	`select set_config('landlord.token', '{victim}', true)`,
	`select set_config('backtrace_functions', '{victim}', true)`,
	`set local landlord.tenant = '{victim}'`,
	`set landlord.tenant = '{victim}'`,
	`set local landlord.token = '{victim}'`,
	`set local backtrace_functions = '{victim}'`,
	`set row_security = off`,
	`set local role landlord_owner`,
	`set role landlord_admin`,
	`set session authorization landlord_migrator`,
	`reset role`,
	`reset all`,
	`discard all`,
	`select landlord.seal('{victim}', '', 1, 1, '')`,
	`select landlord.enter('{victim}', '', 1, 1, 1, '')`,
	`select landlord.admin_enter('leaktest')`,
	`do $$ begin perform set_config('landlord.tenant', '{victim}', true); end $$`,
	`do $$ begin execute 'set local landlord.tenant = ''{victim}'''; end $$`,
	`update pg_settings set setting = '{victim}' where name = 'landlord.tenant'`,
	`create or replace function landlord.tenant() returns text language sql as 'select ''{victim}'''`,
	`commit; begin; select set_config('landlord.tenant', '{victim}', false)`,
	`select 1; set landlord.tenant = '{victim}'`,
	`rollback`,
	`commit`,
	`select * from landlord.seal_key`,
	`select * from landlord.fence`,
	`update landlord.fence set state = 'open'`,
	`select query_to_xml('select * from {table}', true, true, '')`,
	`copy (select * from {table}) to program 'cat'`,
	`select lo_export(1, '/dev/null')`,
	`select pg_read_file('postgresql.conf')`,
}

// forgeries tries each, and looks with what it has left behind whether a row of the victim's can be seen: in the same transaction,
// and in the next.
func (tr *trial) forgeries(t *testing.T) {
	ctx := t.Context()
	if len(tr.loot) == 0 {
		t.Skip("the victim has no table")
	}
	names := strings.NewReplacer("{victim}", tr.victim.Tenant().String(), "{table}", tr.loot[0].quoted())
	for _, forgery := range forgeries {
		sql := names.Replace(forgery)
		// Most are refused, as they should be. What is not is looked at.
		_ = try(ctx, tr.thief, func(ctx context.Context, tx *router.Tx) error {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
			tr.look(ctx, t, tx, "after "+sql)
			return nil
		})
		tr.look(ctx, t, tr.thief, "in the transaction after the one of "+sql)
	}
}

// look fails when db sees a row of the victim's.
func (tr *trial) look(ctx context.Context, t *testing.T, db queryer, when string) {
	t.Helper()
	for _, r := range tr.loot {
		if len(r.rows) == 0 || !r.named() {
			continue
		}
		if n, err := r.sees(ctx, db, r.rows[0], ""); err == nil && n > 0 {
			t.Errorf("tenant %s sees a row of tenant %s in %s, %s", tr.thief.Tenant(), tr.victim.Tenant(), r, when)
		}
	}
}
