package fleet_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/onboard"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/tenant"
)

// shape is everything that a home's schema holds, without the schema's name and the tenant's id.
func shape(t *testing.T, h *testhouse.House, p placement.Placement) []string {
	t.Helper()
	const q = `
with here as (select c.* from pg_class c where c.relnamespace = to_regnamespace(quote_ident($1)))
select format('%s %s owner %s acl %s rls %s %s options %s', relkind, relname, relowner::regrole, relacl, relrowsecurity, relforcerowsecurity, reloptions) from here
union all select format('column %s.%s %s null %s identity %s default %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), not a.attnotnull,
       a.attidentity, pg_get_expr(d.adbin, d.adrelid))
  from here c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum where c.relkind in ('r', 'v')
union all select format('constraint %s %s', k.conname, pg_get_constraintdef(k.oid)) from here c join pg_constraint k on k.conrelid = c.oid
union all select format('index %s valid %s', pg_get_indexdef(i.indexrelid), i.indisvalid) from here c join pg_index i on i.indrelid = c.oid
union all select format('policy %s %s %s %s', p.polname, p.polpermissive, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
  from here c join pg_policy p on p.polrelid = c.oid
union all select format('function %s %s %s', proname, proowner::regrole, proacl) from pg_proc where pronamespace = to_regnamespace(quote_ident($1))
union all select format('version %s %s %s', version, checksum, phase) from landlord.schema_version where schema = $1
order by 1`
	rows, err := h.Super(t, p.Home.Database).Query(t.Context(), q, p.Home.Schema)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Greater(t, len(lines), 20)
	for i := range lines {
		lines[i] = strings.NewReplacer(p.Home.Schema+".", "", p.Tenant.String(), "ID", placement.DedicatedLogin(p.Home.Database), "APP").Replace(lines[i])
	}
	return lines
}

func TestAHomeThatIsBuiltNewEqualsOneThatIsMigratedStepByStep(t *testing.T) {
	t.Parallel()
	files := []string{
		"00004_note.sql", addNote + "\ncreate view notes as select id, note from customers;",
		"00005_slug.sql", "-- landlord: scope=database\n-- +goose Up\ncreate or replace function slug(s text) returns text language sql immutable return lower(s);",
		"00006_by_note.sql", "-- +goose NO TRANSACTION\n-- +goose Up\ncreate index concurrently customers_by_note on customers (tenant_id, note);",
		"00007_role.sql", "-- landlord: scope=server\n-- +goose Up\ncomment on tablespace pg_default is 'told once per server';",
		"00008_visits.sql", "create table visits (tenant_id uuid, id bigserial, customer_id bigint, slug text, primary key (tenant_id, id),\n" +
			"  foreign key (tenant_id, customer_id) references customers (tenant_id, id));\ncreate index on visits (slug(slug));",
		"00009_drop.sql", "-- landlord: phase=contract\n-- +goose Up\nalter table orders drop column status;\nalter table visits alter column slug set not null;",
	}
	h, all := street(t, 1, "a")
	for n := 2; n <= len(files); n += 2 { // one file at a time
		s, err := newFleet(t, h, with(t, files[:n]...)).Up(t.Context(), fleet.Options{})
		require.NoError(t, err)
		require.Equal(t, placement.RunDone, s.Run.State, "%s: %+v", files[n-2], s.Failures)
	}
	set := with(t, files...)
	service, err := onboard.New(onboard.Config{Catalog: h.Catalog, Keys: h.Keys, Builder: set, Mode: isolation.Sealed})
	require.NoError(t, err)
	for _, m := range []placement.Model{placement.ModelSchema, placement.ModelDatabase} {
		fresh, err := service.Add(t.Context(), placement.Request{ID: h.NewID(t), Slug: tenant.Slug("fresh-" + string(m)), Model: m, Cluster: "a"})
		require.NoError(t, err)
		h.Forget(t, fresh)
		for _, old := range all {
			if old.Model == m {
				require.Equal(t, shape(t, h, fresh), shape(t, h, old))
			}
		}
	}
	plan, err := newFleet(t, h, set).Plan(t.Context(), fleet.Options{})
	require.NoError(t, err)
	require.Empty(t, plan.Targets, "what is for a whole database was done in the new one too: %+v", plan.Groups)
}
