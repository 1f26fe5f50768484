package integration_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/forgery"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/tenant"
)

// What can be said through the router: every forgery at every door that takes SQL. What the router refuses to send, and that its
// sessions come back clean, is proved in package router; here is what is left for the database to stop, in each mode.

// handle is a router's handle or a transaction.
type handle interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// door sends SQL as the thief and returns every value that comes back. What a door leaves to be seen later in the same transaction
// comes back too.
type door struct {
	name  string
	blind bool // nothing comes back
	send  func(ctx context.Context, db *router.DB, std *sql.DB, q string) string
}

const lookAgain = "select body from note"

// values reads rows, whatever they hold.
func values(rows pgx.Rows, err error) (all string) {
	if err != nil {
		return ""
	}
	defer rows.Close()
	for rows.Next() {
		for _, v := range rows.RawValues() {
			all += string(v) + "\n"
		}
	}
	if err := rows.Err(); err != nil {
		all += err.Error() // it may say more than it should
	}
	return all
}

// sqlValues is the same for database/sql.
func sqlValues(rows *sql.Rows, err error) (all string) {
	if err != nil {
		return ""
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return ""
	}
	into := make([]any, len(columns))
	for i := range into {
		into[i] = new(any)
	}
	for rows.Next() && rows.Scan(into...) == nil {
		for _, v := range into {
			all += fmt.Sprint(*v.(*any)) + "\n"
		}
	}
	if err := rows.Err(); err != nil {
		all += err.Error() // it may say more than it should
	}
	return all
}

// inTx is a door in a transaction of its own, in which the thief looks again.
func inTx(send func(ctx context.Context, tx *router.Tx, q string) string) func(context.Context, *router.DB, *sql.DB, string) string {
	return func(ctx context.Context, db *router.DB, _ *sql.DB, q string) (seen string) {
		_ = db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error { // what it says of q, the values say
			seen = send(ctx, tx, q)
			seen += values(tx.Query(ctx, lookAgain))
			return errors.New("undo")
		})
		return seen
	}
}

func inBatch(ctx context.Context, h handle, q string) string {
	b := &pgx.Batch{}
	b.Queue(q)
	b.Queue(lookAgain)
	results := h.SendBatch(ctx, b)
	defer results.Close()
	return values(results.Query()) + values(results.Query())
}

var doors = []door{
	{name: "Exec", blind: true, send: func(ctx context.Context, db *router.DB, _ *sql.DB, q string) string {
		_, _ = db.Exec(ctx, q)
		return ""
	}},
	{name: "Query", send: func(ctx context.Context, db *router.DB, _ *sql.DB, q string) string { return values(db.Query(ctx, q)) }},
	{name: "Query with an argument", send: func(ctx context.Context, db *router.DB, _ *sql.DB, q string) string {
		return values(db.Query(ctx, q, pgx.NamedArgs{"none": 1}))
	}},
	{name: "SendBatch", send: func(ctx context.Context, db *router.DB, _ *sql.DB, q string) string { return inBatch(ctx, db, q) }},
	{name: "Tx.Exec", send: inTx(func(ctx context.Context, tx *router.Tx, q string) string {
		_, _ = tx.Exec(ctx, q)
		return ""
	})},
	{name: "Tx.Query", send: inTx(func(ctx context.Context, tx *router.Tx, q string) string { return values(tx.Query(ctx, q)) })},
	{name: "Tx.SendBatch", send: inTx(func(ctx context.Context, tx *router.Tx, q string) string { return inBatch(ctx, tx, q) })},
	{name: "Tx.Savepoint", send: inTx(func(ctx context.Context, tx *router.Tx, q string) (seen string) {
		_ = tx.Savepoint(ctx, func(ctx context.Context, tx *router.Tx) error {
			_, err := tx.Exec(ctx, q)
			return err
		})
		return seen
	})},
	{name: "sql.DB.Exec", blind: true, send: func(ctx context.Context, _ *router.DB, std *sql.DB, q string) string {
		_, _ = std.ExecContext(ctx, q)
		return ""
	}},
	{name: "sql.DB.Query", send: func(ctx context.Context, _ *router.DB, std *sql.DB, q string) string {
		return sqlValues(std.QueryContext(ctx, q))
	}},
	{name: "sql.DB.Prepare", send: func(ctx context.Context, _ *router.DB, std *sql.DB, q string) string {
		stmt, err := std.PrepareContext(ctx, q)
		if err != nil {
			return ""
		}
		defer stmt.Close()
		return sqlValues(stmt.QueryContext(ctx))
	}},
	{name: "sql.Tx.Exec", send: func(ctx context.Context, _ *router.DB, std *sql.DB, q string) string {
		tx, err := std.BeginTx(ctx, nil)
		if err != nil {
			return ""
		}
		defer func() { _ = tx.Rollback() }() // it may have been refused
		_, _ = tx.ExecContext(ctx, q)
		return sqlValues(tx.QueryContext(ctx, lookAgain))
	}},
}

// atDoors are the forgeries that get through the router's doors: only what is one statement of those that it passes on reaches the
// database, and there the mode decides.
func atDoors(mode isolation.Mode, hardened bool) (names []string) {
	if mode == isolation.Plain {
		names = append(names, "set_config in a CTE")
		if !hardened {
			names = append(names, "set_config by XML")
		}
	}
	return names
}

func TestAtTheRoutersDoorsOnlyWhatIsSaidGetsThrough(t *testing.T) {
	t.Parallel()
	for _, mode := range everyMode {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, testhouse.Options{Mode: mode})
			s.knock(t, false)
			_, err := s.Service.Harden(t.Context(), false, false)
			require.NoError(t, err)
			s.knock(t, true)
			s.copyInto(t)
			s.requireUntouched(t)
		})
	}
}

// knock tries every forgery at every door.
func (s *scene) knock(t *testing.T, hardened bool) {
	t.Helper()
	r := s.routerOf(t)
	defer r.Close()
	std := r.SQL()
	defer std.Close()
	thief := s.thief[placement.ModelShared].Tenant
	db := r.Tenant(thief)
	ctx, err := tenant.NewContext(t.Context(), thief)
	require.NoError(t, err)
	for _, f := range forgery.All {
		for _, d := range doors {
			seen := d.send(ctx, db, std, s.write(f.SQL))
			want := !d.blind && slices.Contains(atDoors(s.mode, hardened), f.Name)
			require.Equal(t, want, strings.Contains(seen, canary), "mode %s, hardened %v: %q at %s", s.mode, hardened, f.Name, d.name)
			next := values(db.Query(ctx, lookAgain))
			require.NotContains(t, next, canary, "after %q at %s", f.Name, d.name)
			require.Contains(t, next, "own row", "after %q at %s", f.Name, d.name)
		}
	}
}

// copyInto tries the door that takes names and values instead of SQL.
func (s *scene) copyInto(t *testing.T) {
	t.Helper()
	r := s.routerOf(t)
	thief, victim := s.thief[placement.ModelShared], s.victim[placement.ModelShared]
	theirs := s.victim[placement.ModelSchema].Home.Schema
	for _, try := range []struct {
		name    string
		table   pgx.Identifier
		columns []string
		row     []any
	}{
		{"a row of the victim's", pgx.Identifier{"note"}, []string{"tenant_id", "body"}, []any{victim.Tenant.String(), "planted"}},
		{"a table of another's schema home", pgx.Identifier{theirs, "note"}, []string{"body"}, []any{"planted"}},
		{"a table of landlord's", pgx.Identifier{"landlord", "fence"}, []string{"tenant"}, []any{"x"}},
		{"SQL for a table", pgx.Identifier{`note" (body) select body from note; --`}, []string{"body"}, []any{"planted"}},
		{"SQL for a column", pgx.Identifier{"note"}, []string{`body") values ('planted'); --`}, []any{"planted"}},
		{"a partition", pgx.Identifier{"event_0"}, []string{"id", "body"}, []any{int64(9), "planted"}},
	} {
		_, err := r.Tenant(thief.Tenant).CopyFrom(t.Context(), try.table, try.columns, pgx.CopyFromRows([][]any{try.row}))
		require.Error(t, err, try.name)
		err = r.Tenant(thief.Tenant).Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
			_, err := tx.CopyFrom(ctx, try.table, try.columns, pgx.CopyFromRows([][]any{try.row}))
			return err
		})
		require.Error(t, err, try.name)
	}
	n, err := r.Tenant(thief.Tenant).CopyFrom(t.Context(), pgx.Identifier{"note"}, []string{"body"}, pgx.CopyFromRows([][]any{{`'); delete from note; --`}}))
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	_, err = r.Tenant(thief.Tenant).Exec(t.Context(), "delete from note where body like '%delete from%'")
	require.NoError(t, err)
}

// hostileIDs are ids of type text that would be something else where somebody forgot to quote.
var hostileIDs = []string{
	`'`, `"; drop schema landlord cascade; --`, `x'; delete from note; --`, `$$; drop table note; $$`, `\`, `%s`, `a|b`, `a@b`, `t_61`, `A`, `a`, `{}`,
	"ä", "a\u0308", "🏠", strings.Repeat("x", 128), strings.Repeat("x", 127) + "y", `../../etc`, `null`, `*`,
}

func TestHostileNamesAreNothingButNames(t *testing.T) {
	t.Parallel()
	text := strings.ReplaceAll(string(attackTables["00001_tables.sql"].Data), "tenant_id uuid", "tenant_id text")
	files := fstest.MapFS{"00001_tables.sql": {Data: []byte(text)}}
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}, IDType: tenant.Text, Migrations: files})
	for _, slug := range []string{"", "'", "a'; drop table x; --", "A", "a.b", "a/b", "-a", "ä", strings.Repeat("a", 64), "a\n", "a b"} {
		_, err := h.Service.Add(t.Context(), placement.Request{ID: h.NewID(t), Slug: tenant.Slug(slug), Model: placement.ModelShared, Cluster: "a"})
		require.ErrorIs(t, err, tenant.ErrBadSlug, "%q", slug)
	}
	r := h.Router(t)
	ids := map[tenant.ID]string{}
	for i, text := range hostileIDs {
		id, err := tenant.Text.Parse(text)
		require.NoError(t, err)
		model := placement.ModelShared
		if i%5 == 1 {
			model = placement.ModelSchema
		}
		if i == 2 {
			model = placement.ModelDatabase
		}
		p, err := h.Service.Add(t.Context(), placement.Request{ID: id, Slug: tenant.Slug(fmt.Sprintf("tenant-%d", i)), Model: model, Cluster: "a"})
		require.NoError(t, err, text)
		h.Forget(t, p)
		_, err = r.Tenant(id).Exec(t.Context(), "insert into note (body) values ($1)", "of "+text)
		require.NoError(t, err, text)
		ids[id] = "of " + text
	}
	for id, want := range ids {
		var said, body string
		require.NoError(t, r.Tenant(id).QueryRow(t.Context(), "select landlord.tenant(), string_agg(body, ' and ') from note").Scan(&said, &body))
		require.Equal(t, []string{id.String(), want}, []string{said, body})
	}
	for id, body := range ids { // and away again, one without another
		_, err := r.Tenant(id).Exec(t.Context(), "delete from note")
		require.NoError(t, err, body)
	}
}
