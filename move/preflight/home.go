package preflight

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
)

// sourceFence checks that the tenant is open where the catalog has it.
func (c *checker) sourceFence(ctx context.Context, s *side) error {
	standing, err := isolation.Look(ctx, s.conn, c.Tenant.ID.String(), s.home.String(), s.home.Schema)
	if err != nil {
		return err
	}
	f, object := standing.Fence, "home "+s.home.String()
	switch {
	case f == nil:
		c.problem(FenceState, object, "there is no fence row of the tenant", "the catalog and the data do not agree: see 'landlord doctor'")
	case f.State != isolation.Open:
		c.problem(FenceState, object, fmt.Sprintf("the fence is %s, not open", f.State),
			"let a move that is under way end, or resume the tenant ('landlord tenant resume'); see 'landlord doctor'")
	case f.Epoch != c.Tenant.Epoch:
		c.problem(FenceState, object, fmt.Sprintf("the fence is at epoch %d, and the catalog at %d", f.Epoch, c.Tenant.Epoch),
			"the catalog and the data do not agree: see 'landlord doctor'")
	}
	return nil
}

// targetHome checks that nothing of the tenant is at the target already. A schema or database that is to be made has a name of its own.
func (c *checker) targetHome(ctx context.Context, s *side) error {
	if s.model != placement.ModelShared || s.home == c.source.home {
		return nil
	}
	var ready bool
	if err := s.conn.QueryRow(ctx, `select to_regclass('landlord.fence') is not null`).Scan(&ready); err != nil {
		return err
	}
	standing, err := isolation.Look(ctx, s.conn, c.Tenant.ID.String(), s.home.String(), s.home.Schema)
	if err != nil {
		return err
	}
	object := "home " + s.home.String()
	switch {
	case !ready:
		c.problem(TargetHome, object, "landlord's own objects are not there", "run 'landlord init'")
	case standing.Fence != nil:
		c.problem(TargetHome, object, fmt.Sprintf("there is a fence row of the tenant, %s at epoch %d", standing.Fence.State, standing.Fence.Epoch),
			"something was left there, or the tenant lives there: see 'landlord doctor'")
	case !standing.Gone:
		c.problem(TargetHome, object, "there are rows of the tenant", "something was left there, or the tenant lived there: see 'landlord doctor'")
	}
	return nil
}

// steps looks for migrations that have begun, and for holds of other moves.
func (c *checker) steps(ctx context.Context, s *side) error {
	if !s.made {
		return nil
	}
	const q = `
select coalesce((select unfinished from landlord.schema_step where schema = $1), 0),
       coalesce((select move::text from landlord.move_hold where schema = $1), '')`
	var unfinished int64
	var hold string
	if err := s.conn.QueryRow(ctx, q, s.home.Schema).Scan(&unfinished, &hold); err != nil {
		return err
	}
	if unfinished != 0 {
		c.problem(RunningStep, "home "+s.home.String(), fmt.Sprintf("version %d runs outside a transaction, and has begun and not ended", unfinished),
			"let the run end, or repeat it ('landlord migrate status', 'landlord migrate retry')")
	}
	if hold != "" && s.home.Schema != isolation.SharedSchema { // a shared home may be held by other tenants' moves
		c.problem(OtherMove, "home "+s.home.String(), "it is held by move "+hold, "let that move end, complete or abort it ('landlord move list')")
	}
	return nil
}

// versions compares which migrations the two homes have.
func (c *checker) versions(ctx context.Context, _ *side) error {
	read := func(s *side) (map[int64]string, error) {
		rows, err := s.conn.Query(ctx, `select version, checksum from landlord.schema_version where schema = $1`, s.home.Schema)
		if err != nil {
			return nil, err
		}
		have := make(map[int64]string)
		var version int64
		var checksum string
		_, err = pgx.ForEachRow(rows, []any{&version, &checksum}, func() error {
			have[version] = checksum
			return nil
		})
		return have, err
	}
	source, err := read(c.source)
	if err != nil {
		return err
	}
	target, err := read(c.target)
	if err != nil {
		return err
	}
	var differ []string
	for v, sum := range source {
		switch there, ok := target[v]; {
		case !ok:
			differ = append(differ, fmt.Sprintf("%d is missing at the target", v))
		case there != sum:
			differ = append(differ, fmt.Sprintf("%d was made from another text", v))
		}
	}
	for v := range target {
		if _, ok := source[v]; !ok {
			differ = append(differ, fmt.Sprintf("%d is missing at the source", v))
		}
	}
	if len(differ) == 0 {
		return nil
	}
	slices.Sort(differ)
	what := "version " + strings.Join(differ, ", ")
	if !c.target.made {
		what += ", judged by the home " + c.target.home.String()
	}
	c.problem(SchemaVersion, "home "+c.source.home.String(), what, "bring both to the same version first ('landlord migrate up', 'landlord migrate status')")
	return nil
}

// databases compares what the two databases are made of. One that is not made yet will be as the server's template0.
func (c *checker) databases(ctx context.Context, s *side) error {
	const q = `
select pg_encoding_to_char(encoding), datcollate, datctype, coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', ''),
       coalesce(case when to_jsonb(d) ? 'datcollversion' then to_jsonb(d) ->> 'datcollversion' end, '')
  from pg_database d where datname = $1`
	type kind struct{ encoding, collate, ctype, provider, locale, version string }
	read := func(s *side, database string) (k kind, err error) {
		err = s.conn.QueryRow(ctx, q, database).Scan(&k.encoding, &k.collate, &k.ctype, &k.provider, &k.locale, &k.version)
		return k, err
	}
	source, err := read(c.source, c.source.home.Database)
	if err != nil {
		return err
	}
	database := s.home.Database
	if s.model == placement.ModelDatabase {
		database = "template0"
	}
	target, err := read(s, database)
	if err != nil {
		return err
	}
	object := s.object("database " + database)
	if source.encoding != target.encoding {
		c.problem(Encoding, object, fmt.Sprintf("its encoding is %s, the source's %s", target.encoding, source.encoding),
			"use a cluster whose databases have the same encoding")
	}
	version := source.version == target.version
	source.version, target.version = "", ""
	source.encoding, target.encoding = "", ""
	switch {
	case source != target:
		c.problem(Collation, object, fmt.Sprintf("its locale is %s (%s), the source's %s (%s): text would be ordered differently",
			target.collate, target.ctype, source.collate, source.ctype), "use a cluster whose databases have the same locale")
	case !version:
		c.warn(CollVersion, object, "the library that orders its text has another version than the source's", "see that the application does not rely on the order of rare characters")
	}
	return c.extensions(ctx)
}

// extensions compares what is installed. A database that is not made yet gets what the shared one of its cluster has.
func (c *checker) extensions(ctx context.Context) error {
	read := func(s *side) (map[string]string, error) {
		rows, err := s.conn.Query(ctx, `select extname, extversion from pg_extension where extname <> 'plpgsql' order by extname`)
		if err != nil {
			return nil, err
		}
		have := make(map[string]string)
		var name, version string
		_, err = pgx.ForEachRow(rows, []any{&name, &version}, func() error {
			have[name] = version
			return nil
		})
		return have, err
	}
	source, err := read(c.source)
	if err != nil {
		return err
	}
	target, err := read(c.target)
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(source) {
		object := c.target.object("extension " + name)
		switch version, ok := target[name]; {
		case !ok:
			c.problem(Extension, object, "the source's database has it, the target's has not", "create extension "+name+" in database "+c.target.home.Database)
		case version != source[name]:
			c.warn(Extension, object, fmt.Sprintf("it has version %s, the source's %s", version, source[name]), "alter extension "+name+" update, on the older side")
		}
	}
	return nil
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// largeObjects are in no publication. In a database of its own all are the tenant's; elsewhere they are when a table refers to some.
func (c *checker) largeObjects(ctx context.Context, s *side) error {
	var n int64
	if err := s.conn.QueryRow(ctx, `select count(*) from pg_largeobject_metadata`).Scan(&n); err != nil || n == 0 {
		return err
	}
	const fix = "keep their content in columns of type bytea"
	if s.model == placement.ModelDatabase {
		c.problem(LargeObjects, "database "+s.home.Database, fmt.Sprintf("it has %d large objects, which cannot be followed", n), fix)
		return nil
	}
	for _, t := range owned(s.tables) {
		for _, col := range t.Columns {
			if col.Type == "oid" || col.Type == "lo" || strings.HasSuffix(col.Type, ".lo") {
				c.problem(LargeObjects, t.Name+"."+col.Name, fmt.Sprintf("it may name some of the database's %d large objects, which cannot be followed", n), fix)
			}
		}
	}
	return nil
}
