package isolation_test

import (
	"cmp"
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
)

// objects lists what Install made, with rights, so that two installations can be compared.
func (h *home) objects(t *testing.T) string {
	t.Helper()
	return state(t, h.super(t), "landlord") + text(t, h.super(t), `
select string_agg(line, e'\n' order by line) from (
  select format('schema %s %s %s', nspname, nspowner::regrole, array(select a::text from unnest(nspacl) a order by 1)) as line from pg_namespace where nspname !~ '^pg_'
   union all
  select format('function %s %s', p.oid::regprocedure, md5(pg_get_functiondef(p.oid))) from pg_proc p where p.pronamespace = 'landlord'::regnamespace
   union all
  select format('default %s %s', defaclrole::regrole, defaclacl) from pg_default_acl
   union all
  select format('setting %s %s', setrole::regrole, setconfig) from pg_db_role_setting where setdatabase = (select oid from pg_database where datname = current_database())
   union all
  select format('database %s', array(select a::text from unnest(datacl) a order by 1)) from pg_database where datname = current_database()
) as lines`)
}

func TestInstallIsIdempotentInEveryMode(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			h := newDatabase(t, mode)
			_, err := isolation.ReadIdentity(t.Context(), h.super(t))
			require.ErrorIs(t, err, isolation.ErrIdentity)

			changed, err := isolation.Install(t.Context(), h.super(t), h.want, h.ring)
			require.NoError(t, err)
			require.True(t, changed)
			before := h.objects(t)
			changed, err = isolation.Install(t.Context(), h.super(t), h.want, h.ring)
			require.NoError(t, err)
			require.False(t, changed)
			require.Equal(t, before, h.objects(t))

			for _, conn := range []*pgx.Conn{h.super(t), h.app(t), h.admin(t), h.migrator(t)} {
				got, err := isolation.ReadIdentity(t.Context(), conn)
				require.NoError(t, err)
				require.False(t, got.Clock.IsZero())
				want := h.want
				want.Version, want.Clock, want.PID = isolation.Version, got.Clock, conn.PgConn().PID()
				require.Equal(t, want, got)
				require.NoError(t, h.want.Check(got))
			}
		})
	}
}

func TestASecondIdentityIsRefused(t *testing.T) {
	t.Parallel()
	h := newHome(t, isolation.Sealed)
	before := h.objects(t)
	for name, change := range map[string]func(*isolation.Identity){
		"stamp":        func(id *isolation.Identity) { id.Stamp = uuid.NewString() },
		"installation": func(id *isolation.Identity) { id.Installation = uuid.NewString() },
		"cluster":      func(id *isolation.Identity) { id.Cluster = "b" },
	} {
		want := h.want
		change(&want)
		changed, err := isolation.Install(t.Context(), h.super(t), want, isolation.Keyring{newKey(t, 7)})
		require.ErrorIs(t, err, isolation.ErrIdentity, name)
		require.False(t, changed)
	}
	require.Equal(t, before, h.objects(t))
	keys, err := isolation.Keys(t.Context(), h.super(t))
	require.NoError(t, err)
	require.Len(t, keys, 1)
}

func TestAConnectionToAnotherDatabaseIsRecognised(t *testing.T) {
	t.Parallel()
	want := isolation.Identity{Cluster: "a", Stamp: uuid.NewString()}
	got := isolation.Identity{Cluster: "a", Stamp: want.Stamp, Version: isolation.Version, Mode: isolation.Sealed}
	require.NoError(t, want.Check(got))
	swapped := got
	swapped.Cluster = "b"
	require.ErrorIs(t, want.Check(swapped), isolation.ErrIdentity)
	remade := got
	remade.Stamp = uuid.NewString()
	require.ErrorIs(t, want.Check(remade), isolation.ErrIdentity)

	// Homes are upgraded under running services, one version at a time.
	for version, ok := range map[int]bool{
		isolation.Version: true, isolation.Version - 1: true, isolation.Version - 2: false, isolation.Version + 1: false,
	} {
		got.Version = version
		err := want.Check(got)
		require.Equal(t, ok, err == nil, "version %d: %v", version, err)
		require.NotErrorIs(t, err, isolation.ErrIdentity)
	}
}

// An older release left other functions and another checksum: Install brings them up to date under a running application.
func TestInstallUpgradesWhatAnOlderReleaseMade(t *testing.T) {
	t.Parallel()
	for _, model := range models {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, isolation.Sealed, model)
			before := p.objects(t)
			running := p.app(t)
			p.begin(t, running, p.tenant)
			super := p.super(t)
			exec(t, super, `
create or replace function landlord.admin_enter(p_reason text) returns text language sql as 'select null::text';
revoke execute on function landlord.enter from `+ident(p.want.AppLogin)+`;
alter function landlord.no_tenant owner to postgres; grant select on landlord.fence to public;
grant temporary on database `+ident(p.database)+` to public;
drop function landlord.begin_step, landlord.end_step; drop table landlord.schema_step, landlord.backfill, landlord.move_hold,
  landlord.move_chunk, landlord.move_progress, landlord.seal_key_age;
alter table landlord.schema_version drop column phase, drop column run;
update landlord.identity set version = 1, checksum = 'of an older release'`)
			require.NotEqual(t, before, p.objects(t))

			changed, err := isolation.Install(t.Context(), super, p.want, p.ring)
			require.NoError(t, err)
			require.True(t, changed)
			require.Equal(t, before, p.objects(t))
			exec(t, running, "insert into note (body) values ('under the upgrade'); commit")
			p.visit(t, p.tenant, func(conn *pgx.Conn) { require.Equal(t, ownRows+1, count(t, conn, "select from note")) })
			changed, err = isolation.Install(t.Context(), super, p.want, p.ring)
			require.NoError(t, err)
			require.False(t, changed)
		})
	}
}

// Somebody has replaced a routine, and dropped another, in a home that claims to be of this release.
func TestInstallMakesAnewWhatSomebodyHasReplaced(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		for _, model := range models {
			t.Run(string(mode)+" "+model, func(t *testing.T) {
				t.Parallel()
				p := newPlace(t, mode, model)
				before := p.objects(t)
				super := p.super(t)
				names, err := isolation.Altered(t.Context(), super)
				require.NoError(t, err)
				require.Empty(t, names)
				exec(t, super, "create or replace function landlord.tenant() returns text language sql stable as $$ select "+lit(p.other)+" $$; "+
					"alter function landlord.no_tenant security definer; drop procedure landlord.secure; set search_path = landlord")
				names, err = isolation.Altered(t.Context(), super)
				require.NoError(t, err)
				require.Equal(t, []string{"landlord.no_tenant", "landlord.secure", "landlord.tenant"}, names)

				changed, err := isolation.Install(t.Context(), super, p.want, p.ring)
				require.NoError(t, err)
				require.True(t, changed)
				exec(t, super, "reset search_path")
				require.Equal(t, before, p.objects(t))
				p.visit(t, p.tenant, func(conn *pgx.Conn) { require.Equal(t, ownRows, count(t, conn, "select from note")) })
				changed, err = isolation.Install(t.Context(), super, p.want, p.ring)
				require.NoError(t, err)
				require.False(t, changed)
			})
		}
	}
}

func TestInstallRefusesANewerReleasesHome(t *testing.T) {
	t.Parallel()
	h := newHome(t, isolation.Plain)
	exec(t, h.super(t), "update landlord.identity set version = "+text(t, h.super(t), "select (version + 1)::text from landlord.identity"))
	_, err := isolation.Install(t.Context(), h.super(t), h.want, h.ring)
	require.ErrorContains(t, err, "use a newer release")
}

func TestAHomeCanBeMadeStronger(t *testing.T) {
	t.Parallel()
	p := newPlace(t, isolation.Plain, "shared")
	for _, mode := range []isolation.Mode{isolation.Locked, isolation.SealedMAC, isolation.Sealed, isolation.SealedMAC} {
		p.want.Mode = mode
		changed, err := isolation.Install(t.Context(), p.super(t), p.want, p.ring)
		require.NoError(t, err)
		require.True(t, changed)
		p.visit(t, p.tenant, func(conn *pgx.Conn) { require.Equal(t, ownRows, count(t, conn, "select from note"), mode) })
		conn := p.app(t)
		refuses(t, conn, pgerr.NoTenant, "select * from note")
		exec(t, conn, "begin; set local landlord.tenant = "+lit(p.other))
		if mode != isolation.Locked {
			refuses(t, conn, pgerr.NoTenant, "select * from note")
		}
		exec(t, conn, "rollback")
	}
}

// A weaker mode takes back what a stronger one has closed, and no mode gives away what was never the public's.
func TestAModeLeavesNothingOfAnother(t *testing.T) {
	t.Parallel()
	const closed = `
select coalesce(string_agg(p.oid::regprocedure::text, ' ' order by p.oid::regprocedure::text), '')
       || ' ' || has_language_privilege('public', 'plpgsql', 'usage')
  from pg_proc p
 where p.pronamespace = 'pg_catalog'::regnamespace and not has_function_privilege('public', p.oid, 'execute')`
	first := make(map[isolation.Mode]string)
	p := newPlace(t, isolation.Plain, "shared")
	for _, mode := range []isolation.Mode{
		isolation.Plain, isolation.Locked, isolation.Sealed, isolation.SealedMAC, isolation.Sealed, isolation.Plain, isolation.Locked,
	} {
		p.want.Mode = mode
		_, err := isolation.Install(t.Context(), p.super(t), p.want, p.ring)
		require.NoError(t, err)
		p.visit(t, p.tenant, func(conn *pgx.Conn) { require.Equal(t, ownRows, count(t, conn, "select from note"), mode) })
		now := text(t, p.super(t), closed)
		require.Equal(t, cmp.Or(first[mode], now), now, mode)
		first[mode] = now
		for _, login := range []string{isolation.AdminRole, isolation.MigratorRole} {
			for _, file := range []string{"lo_import(text)", "lo_export(oid, text)"} {
				require.Equal(t, "false", text(t, p.super(t), "select has_function_privilege('"+login+"', '"+file+"', 'execute')::text"), mode)
			}
		}
	}
	require.NotEqual(t, first[isolation.Plain], first[isolation.Sealed])
	require.Equal(t, first[isolation.Plain], first[isolation.SealedMAC])
}

func TestInstallsAtOnceEndInOneHome(t *testing.T) {
	t.Parallel()
	h := newDatabase(t, isolation.Sealed)
	results := make([]bool, 4)
	var group errgroup.Group
	for i := range results {
		conn := h.dial(t, nil)
		group.Go(func() (err error) {
			results[i], err = isolation.Install(t.Context(), conn, h.want, h.ring)
			return err
		})
	}
	require.NoError(t, group.Wait())
	require.ElementsMatch(t, []bool{true, false, false, false}, results)
}

func TestAnInstallThatIsKilledLeavesNothing(t *testing.T) {
	t.Parallel()
	h := newDatabase(t, isolation.Sealed)
	super := h.super(t)
	// It stops where it changes advisory-lock functions, because somebody else is changing one.
	exec(t, super, "begin; grant execute on function pg_advisory_lock(bigint) to landlord_guard")
	conn := h.dial(t, nil)
	done := make(chan error, 1)
	go func() {
		_, err := isolation.Install(t.Context(), conn, h.want, h.ring)
		done <- err
	}()
	other := h.dial(t, nil)
	waitsFor(t, other, conn)
	_, err := other.Exec(t.Context(), "select pg_terminate_backend($1)", conn.PgConn().PID())
	require.NoError(t, err)
	requireCode(t, pgerr.AdminShutdown, <-done)
	exec(t, super, "rollback")
	require.Zero(t, count(t, super, "select from pg_namespace where nspname in ('landlord', 'extensions')"))

	changed, err := isolation.Install(t.Context(), super, h.want, h.ring)
	require.NoError(t, err)
	require.True(t, changed)
}

func TestACancelledInstallLeavesNothing(t *testing.T) {
	t.Parallel()
	h := newDatabase(t, isolation.Sealed)
	super := h.super(t)
	exec(t, super, "begin; select pg_advisory_xact_lock(hashtextextended('landlord install', 0))")
	conn := h.dial(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := isolation.Install(ctx, conn, h.want, h.ring)
		done <- err
	}()
	waitsFor(t, h.dial(t, nil), conn)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	exec(t, super, "rollback")
	require.Zero(t, count(t, super, "select from pg_namespace where nspname = 'landlord'"))
}

func TestWhatEveryModeNeedsIsSaid(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"plain", "locked", "sealed-mac", "sealed"} {
		mode, err := isolation.ParseMode(name)
		require.NoError(t, err)
		require.Equal(t, name, string(mode))
	}
	for _, name := range []string{"", "Sealed", "open", "sealed "} {
		_, err := isolation.ParseMode(name)
		require.ErrorContains(t, err, "use sealed, sealed-mac, locked or plain")
	}
	h := newHome(t, isolation.Plain)
	mode, why, err := isolation.ChooseMode(t.Context(), h.super(t))
	require.NoError(t, err)
	require.Equal(t, isolation.Sealed, mode)
	require.Contains(t, why, "superuser")
	mode, why, err = isolation.ChooseMode(t.Context(), h.migrator(t))
	require.NoError(t, err)
	require.Equal(t, isolation.SealedMAC, mode)
	require.Contains(t, why, "no superuser")
	for _, mode := range []isolation.Mode{isolation.Sealed, isolation.Locked} {
		want := h.want
		want.Mode = mode
		_, err = isolation.Install(t.Context(), h.migrator(t), want, h.ring)
		require.ErrorContains(t, err, "choose mode sealed-mac", strings.ToUpper(string(mode)))
	}
}
