package isolation

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/migrations"
)

// Routine is a function or procedure of the home objects, as PostgreSQL keeps it.
type Routine struct {
	Name     string   // in schema landlord
	Definer  bool     // it runs with its owner's rights
	Settings []string // name=value, in their order
	Body     string   // its text; of one whose body is parsed when it is made, what PostgreSQL writes back
}

// Release is what Install makes of the home objects in a mode.
type Release struct {
	Checksum string    // of the SQL; the database's identity has it
	Routines []Routine // those that the mode uses
	Others   []string  // names of routines that other modes leave behind
}

// ReadRelease returns what this program installs in a mode.
func ReadRelease(mode Mode) (Release, error) {
	installed, err := homeFiles(mode)
	if err != nil {
		return Release{}, err
	}
	r := Release{Checksum: installed.checksum}
	at := make(map[string]int)
	for _, text := range installed.always {
		for _, routine := range readRoutines(text) {
			i, ok := at[routine.Name]
			if !ok {
				i = len(r.Routines)
				at[routine.Name] = i
				r.Routines = append(r.Routines, Routine{})
			}
			r.Routines[i] = routine // a later file replaces it
		}
	}
	for i, routine := range r.Routines {
		if !strings.HasPrefix(routine.Body, "return ") {
			continue
		}
		body, ok := writtenBack[routine.Body]
		if !ok {
			return Release{}, fmt.Errorf("read home files: what PostgreSQL writes back of routine %s is not on record", routine.Name)
		}
		r.Routines[i].Body = body
	}
	files, err := fs.Glob(migrations.Home(), "modes/*.sql")
	if err != nil {
		return Release{}, fmt.Errorf("list home files: %w", err)
	}
	for _, file := range files {
		text, err := fs.ReadFile(migrations.Home(), file)
		if err != nil {
			return Release{}, fmt.Errorf("read home file: %w", err)
		}
		for _, routine := range readRoutines(string(text)) {
			if _, ok := at[routine.Name]; !ok {
				r.Others = append(r.Others, routine.Name)
			}
		}
	}
	return r, nil
}

// Sums lists landlord's routines, and the md5 of what each of them does: [SumSQL] makes the same of what is in a database. A
// routine that another mode leaves behind has none.
func (r Release) Sums() (names, sums []string) {
	for _, routine := range r.Routines {
		rights := "invoker"
		if routine.Definer {
			rights = "definer"
		}
		sum := md5.Sum([]byte(rights + "|" + strings.Join(routine.Settings, ",") + "|" + routine.Body))
		names, sums = append(names, routine.Name), append(sums, hex.EncodeToString(sum[:]))
	}
	for _, name := range r.Others {
		names, sums = append(names, name), append(sums, "")
	}
	return names, sums
}

// SumSQL is an SQL expression: the md5 of what a row p of pg_proc does. It holds where pg_catalog alone is searched, since
// PostgreSQL writes names back as they are found.
const SumSQL = `md5(case when p.prosecdef then 'definer|' else 'invoker|' end
    || coalesce(array_to_string(p.proconfig, ','), '') || '|' || coalesce(pg_get_function_sqlbody(p.oid), p.prosrc))`

// Altered names the routines of landlord's that are gone from a database, or do something else there than those of this release
// and the database's mode. Where the home objects are of another release it names none: they cannot be compared.
func Altered(ctx context.Context, conn beginner) (names []string, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		id, checksum, err := readIdentity(ctx, tx)
		if err != nil {
			return err
		}
		release, err := ReadRelease(id.Mode)
		if err != nil || checksum != release.Checksum {
			return err
		}
		names, err = altered(ctx, tx, release)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("compare landlord's routines: %w", err)
	}
	return names, nil
}

// beginner is a connection, or a transaction that may go on.
type beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// altered is Altered where the home objects are those of release.
func altered(ctx context.Context, db beginner, release Release) (names []string, err error) {
	const q = `
select 'landlord.' || r.name from unnest($1::text[], $2::text[]) as r (name, sum)
 where r.sum <> '' and not exists (select from pg_proc p
        where p.pronamespace = 'landlord'::regnamespace and p.proname = r.name and r.sum = ` + SumSQL + `)
 order by 1`
	tx, err := db.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tx.Rollback(ctx)) }() // which gives back the path
	if _, err := tx.Exec(ctx, "set local search_path = pg_catalog"); err != nil {
		return nil, err
	}
	routines, sums := release.Sums()
	rows, err := tx.Query(ctx, q, pgx.QueryExecModeExec, routines, sums)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

var (
	routineText    = regexp.MustCompile(`(?ms)^create or replace (?:function|procedure) landlord\.(\w+)\((.*?)(?:^as \$\$(.*?)\$\$;$|^    (return .*?);$)`)
	routineSetting = regexp.MustCompile(`(?m)^    set (\w+) = (.*?)(?: *--.*)?$`)
	spaces         = regexp.MustCompile(`\s+`)
)

// readRoutines finds the routines of a home file, which are all written in the same way.
func readRoutines(text string) (found []Routine) {
	for _, m := range routineText.FindAllStringSubmatch(text, -1) {
		r := Routine{Name: m[1], Definer: strings.Contains(m[2], " security definer"), Body: m[3]}
		if m[4] != "" {
			r.Body = spaces.ReplaceAllString(m[4], " ")
		}
		for _, s := range routineSetting.FindAllStringSubmatch(m[2], -1) {
			r.Settings = append(r.Settings, s[1]+"="+strings.Trim(s[2], "'"))
		}
		found = append(found, r)
	}
	return found
}

// writtenBack is what PostgreSQL makes of bodies that it parses when the function is made.
var writtenBack = map[string]string{
	// lock_key
	"return pg_catalog.hashtextextended(p_tenant || '@' || p_home, case when p_read_only then 2 else 1 end)": "RETURN hashtextextended(((p_tenant || '@'::text) || p_home), (CASE WHEN p_read_only THEN 2 ELSE 1 END)::bigint)",
	// bypass_key
	"return pg_catalog.hashtextextended('landlord bypass', 3)": "RETURN hashtextextended('landlord bypass'::text, (3)::bigint)",
	// token_text
	"return pg_catalog.convert_to(pg_catalog.concat('landlord1|', pg_catalog.octet_length(p_tenant), ':', p_tenant, '|', pg_catalog.octet_length(p_home), ':', p_home, '|', p_pid, '|', p_exp), 'UTF8')": "RETURN convert_to(concat('landlord1|', octet_length(p_tenant), ':', p_tenant, '|', octet_length(p_home), ':', p_home, '|', p_pid, '|', p_exp), 'UTF8'::name)",
	// sealed_tenant, plain
	"return nullif(pg_catalog.current_setting('landlord.tenant', true), '')": "RETURN NULLIF(current_setting('landlord.tenant'::text, true), ''::text)",
	// tenant, plain
	"return case when pg_catalog.current_setting('landlord.tenant', true) <> '' then pg_catalog.current_setting('landlord.tenant', true) else landlord.no_tenant() end": "RETURN CASE WHEN (current_setting('landlord.tenant'::text, true) <> ''::text) THEN current_setting('landlord.tenant'::text, true) ELSE landlord.no_tenant() END",
	// seal_ok, plain
	"return p_tenant <> ''": "RETURN (p_tenant <> ''::text)",
	// seal, plain
	"return pg_catalog.set_config('landlord.tenant', p_tenant, true)": "RETURN set_config('landlord.tenant'::text, p_tenant, true)",
	// sealed_tenant, sealed-mac
	"return landlord.checked_tenant(nullif(pg_catalog.current_setting('landlord.token', true), ''))": "RETURN landlord.checked_tenant(NULLIF(current_setting('landlord.token'::text, true), ''::text))",
	// tenant, sealed-mac
	"return coalesce(landlord.checked_tenant(nullif(pg_catalog.current_setting('landlord.token', true), '')), landlord.no_tenant())": "RETURN COALESCE(landlord.checked_tenant(NULLIF(current_setting('landlord.token'::text, true), ''::text)), landlord.no_tenant())",
	// seal, sealed-mac
	"return pg_catalog.set_config('landlord.token', pg_catalog.concat_ws('.', pg_catalog.encode(pg_catalog.convert_to(p_tenant, 'UTF8'), 'hex'), pg_catalog.encode(pg_catalog.convert_to(p_home, 'UTF8'), 'hex'), p_kid, p_exp, pg_catalog.encode(p_mac, 'hex')), true)": "RETURN set_config('landlord.token'::text, concat_ws('.'::text, encode(convert_to(p_tenant, 'UTF8'::name), 'hex'::text), encode(convert_to(p_home, 'UTF8'::name), 'hex'::text), p_kid, p_exp, encode(p_mac, 'hex'::text)), true)",
	// sealed_tenant, sealed
	"return case when pg_catalog.current_setting('backtrace_functions') like 't\\_%' then pg_catalog.convert_from(pg_catalog.decode( pg_catalog.substr(pg_catalog.current_setting('backtrace_functions'), 3), 'hex'), 'UTF8') end": "RETURN CASE WHEN (current_setting('backtrace_functions'::text) ~~ 't\\_%'::text) THEN convert_from(decode(substr(current_setting('backtrace_functions'::text), 3), 'hex'::text), 'UTF8'::name) ELSE NULL::text END",
	// tenant, sealed
	"return case when pg_catalog.current_setting('backtrace_functions') like 't\\_%' then pg_catalog.convert_from(pg_catalog.decode( pg_catalog.substr(pg_catalog.current_setting('backtrace_functions'), 3), 'hex'), 'UTF8') else landlord.no_tenant() end": "RETURN CASE WHEN (current_setting('backtrace_functions'::text) ~~ 't\\_%'::text) THEN convert_from(decode(substr(current_setting('backtrace_functions'::text), 3), 'hex'::text), 'UTF8'::name) ELSE landlord.no_tenant() END",
	// seal, sealed
	"return pg_catalog.set_config('backtrace_functions', 't_' || pg_catalog.encode(pg_catalog.convert_to(p_tenant, 'UTF8'), 'hex'), true)": "RETURN set_config('backtrace_functions'::text, ('t_'::text || encode(convert_to(p_tenant, 'UTF8'::name), 'hex'::text)), true)",
}
