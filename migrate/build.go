package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
)

// What a file may take in a new home. Nobody reads there yet, so locks are waited for only where
// an earlier Build of the same home still runs; an everyday file is done within milliseconds.
const (
	lockTimeout      = 10 * time.Second
	statementTimeout = 10 * time.Minute
)

// Build brings a new home to the version of the set. conn leads to the home's database, as a login
// that may create in the schema, and is in no transaction; tenant is the owner of the home, empty
// in a shared one. The home objects (isolation.Install) and the schema exist already.
//
// Every file runs with the search path "schema", extensions, pg_temp. All of them, the securing of
// what they made and their rows in landlord.schema_version are one transaction: an error, a
// cancelled ctx or a killed process leaves the home as it was. What is recorded with the same
// checksum is not run again, so that a Build can be repeated, and two at a time wait for each other.
//
// A file marked NO TRANSACTION splits the work: what comes before it is committed, then its
// statements run one by one on a connection of their own, then what comes after. A Build that
// ended in the middle of such a file runs it again; an index that it had begun concurrently is
// dropped first. Its other statements must stand being repeated.
//
// A file that has changed the search path, however it did so, is an error.
//
// A home that has a version which the set lacks, an applied file that was changed since, and a
// file numbered below what is applied are errors, and nothing is run.
//
// A home that goose has made so far is [ErrGoose].
//
// Only files of the scope tenant are run. What concerns the whole database or server comes first:
// see [Set.Prepare].
func (s *Set) Build(ctx context.Context, conn *pgx.Conn, schema, tenant string) error {
	if err := s.build(ctx, conn, Target{Scope: ScopeTenant, Schema: schema, Tenant: tenant}); err != nil {
		return fmt.Errorf("build home %s: %w", schema, err)
	}
	return nil
}

// Prepare runs what a database needs once, before the first home is built there: the files of the
// scope database and, if server is set because it is the server's shared database, before them
// those of the scope server. conn's login may do in the database, or on the server, what the files
// ask for; otherwise all is as with Build, but that nothing is secured.
func (s *Set) Prepare(ctx context.Context, conn *pgx.Conn, server bool) error {
	if err := checkGoose(ctx, conn); err != nil {
		return fmt.Errorf("prepare database: %w", err)
	}
	if server {
		if err := s.build(ctx, conn, Target{Scope: ScopeServer}); err != nil {
			return fmt.Errorf("prepare server: %w", err)
		}
	}
	if err := s.build(ctx, conn, Target{Scope: ScopeDatabase}); err != nil {
		return fmt.Errorf("prepare database: %w", err)
	}
	return nil
}

func (s *Set) build(ctx context.Context, conn *pgx.Conn, t Target) error {
	if status := conn.PgConn().TxStatus(); status != 'I' {
		return fmt.Errorf("the connection is in a transaction (status %c)", status)
	}
	sql, err := t.compile(conn)
	b := &builder{conn: conn, scope: t.Scope, target: sql}
	for done := false; err == nil && !done; {
		done, err = b.advance(ctx, s)
	}
	return err
}

// builder is one Build: its connection, and its SQL with the names in it.
type builder struct {
	conn   *pgx.Conn
	scope  Scope
	target target
}

// advance runs the next files that go together and reports whether any are left.
func (b *builder) advance(ctx context.Context, s *Set) (done bool, err error) {
	var alone *Migration
	err = pgx.BeginFunc(ctx, b.conn, func(tx pgx.Tx) error {
		// Lock order: this key, then whatever the files lock. A second Build waits here, without a
		// time-out of its own, and then sees what the first has done.
		const lock = `select pg_advisory_xact_lock(hashtextextended('landlord build ' || $1, 0))`
		if _, err := tx.Exec(ctx, lock, b.target.place); err != nil {
			return fmt.Errorf("wait for another build of this home: %w", err)
		}
		applied, err := readApplied(ctx, tx, b.target.place)
		if err != nil {
			return err
		}
		if b.scope == ScopeTenant {
			if err := refuseGoose(ctx, tx, b.target.place, applied); err != nil {
				return err
			}
		}
		pending, err := s.Pending(b.scope, applied)
		if err != nil {
			return err
		}
		if len(pending) > 0 && pending[0].NoTransaction {
			alone = &pending[0]
			return nil
		}
		together := 0
		for together < len(pending) && !pending[together].NoTransaction {
			together++
		}
		done = together == len(pending)
		return b.runTogether(ctx, tx, pending[:together])
	})
	if err == nil && alone != nil {
		err = b.runAlone(ctx, *alone)
	}
	return done, err
}

// runTogether runs files that need no transaction of their own within tx.
func (b *builder) runTogether(ctx context.Context, tx pgx.Tx, files []Migration) error {
	for _, m := range files {
		// Settings first and deferred constraints last: a file finds what a file of its own
		// transaction would find, whatever the file before it has set or left to be checked.
		const last = "set constraints all immediate;\n"
		err := b.stay(ctx, b.conn, b.settings("set local ")+strings.Join(m.Statements, "\n;\n")+"\n;\n"+last)
		if err == nil && m.inGo {
			if err = runGo(ctx, b.conn, m.up); err == nil {
				err = b.stay(ctx, b.conn, last)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.File, err)
		}
	}
	if len(files) == 0 {
		return nil
	}
	return b.record(ctx, tx, files)
}

// runAlone runs a file that PostgreSQL refuses to run in a transaction. Its connection is thrown
// away, so that the settings, which are the session's here, do not stay on the caller's.
func (b *builder) runAlone(ctx context.Context, m Migration) (err error) {
	conn, err := pgx.ConnectConfig(ctx, b.conn.Config())
	if err != nil {
		return fmt.Errorf("%s: connect: %w", m.File, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, conn.Close(ctx))
	}()
	if err := exec(ctx, conn, b.settings("set ")); err != nil {
		return fmt.Errorf("%s: %w", m.File, err)
	}
	for _, index := range m.indexes {
		drop := "drop index concurrently if exists " + pgx.Identifier{b.target.schema, index}.Sanitize()
		if err := exec(ctx, conn, drop); err != nil {
			return fmt.Errorf("%s: remove what an interrupted build left: %w", m.File, err)
		}
	}
	for _, statement := range m.Statements {
		if err := exec(ctx, conn, statement); err != nil {
			return fmt.Errorf("%s: %w", m.File, err)
		}
	}
	if err := b.stay(ctx, conn, ""); err != nil {
		return fmt.Errorf("%s: %w", m.File, err)
	}
	return pgx.BeginFunc(ctx, b.conn, func(tx pgx.Tx) error {
		return b.record(ctx, tx, []Migration{m})
	})
}

// stay runs the end of a file, or all of it, and refuses one that has changed the search path, as landlord.end_step does: it may have
// made its objects elsewhere, out of what is secured.
func (b *builder) stay(ctx context.Context, conn *pgx.Conn, text string) error {
	results, err := conn.PgConn().Exec(ctx, text+"select pg_catalog.current_setting('search_path'), "+b.target.written).ReadAll()
	if err != nil {
		return err
	}
	if row := results[len(results)-1].Rows[0]; string(row[0]) != string(row[1]) {
		return fmt.Errorf("the file has set search_path to %s: what it makes belongs into the home alone: take out what sets search_path, "+
			"also in a DO block", row[0])
	}
	return nil
}

// record secures what files made and writes that they are applied.
func (b *builder) record(ctx context.Context, tx pgx.Tx, files []Migration) error {
	if b.target.secure != "" {
		if err := exec(ctx, b.conn, b.target.secure); err != nil {
			return fmt.Errorf("secure new tables: %w", err)
		}
	}
	versions, checksums, phases := make([]int64, len(files)), make([]string, len(files)), make([]string, len(files))
	for i, m := range files {
		versions[i], checksums[i], phases[i] = m.Version, m.Checksum, string(m.Phase)
	}
	const q = `
insert into landlord.schema_version (schema, version, checksum, phase)
select $1, v, c, p from unnest($2::bigint[], $3::text[], $4::text[]) as n(v, c, p)`
	_, err := tx.Exec(ctx, q, b.target.place, versions, checksums, phases)
	if pgerr.Is(err, pgerr.UndefinedColumn) {
		return fmt.Errorf("record versions: %w: %w", errOlderHome, err)
	}
	if err != nil {
		return fmt.Errorf("record versions: %w", err)
	}
	return nil
}

func (b *builder) settings(set string) string {
	return settings(set, Limits{Lock: lockTimeout, Statement: statementTimeout}, b.target.path)
}

// settings are what a file may count on, and what it may take. set is "set " or "set local ".
func settings(set string, l Limits, path string) string {
	return fmt.Sprintf("%[1]slock_timeout = %[2]d;%[1]sstatement_timeout = %[3]d;%[1]ssearch_path = %[4]s;%[1]stimezone = 'UTC';\n",
		set, l.Lock.Milliseconds(), l.Statement.Milliseconds(), path)
}

// exec sends text as one message of the simple protocol, the only one that takes several statements.
func exec(ctx context.Context, conn *pgx.Conn, text string) error {
	_, err := conn.PgConn().Exec(ctx, text).ReadAll()
	return err
}
