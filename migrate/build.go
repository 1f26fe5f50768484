package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
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
// A home that has a version which the set lacks, an applied file that was changed since, and a
// file numbered below what is applied are errors, and nothing is run.
func (s *Set) Build(ctx context.Context, conn *pgx.Conn, schema, tenant string) error {
	b, err := newBuilder(conn, schema, tenant)
	for done := false; err == nil && !done; {
		done, err = b.advance(ctx, s)
	}
	if err != nil {
		return fmt.Errorf("build home %s: %w", schema, err)
	}
	return nil
}

// builder is one Build: its connection, and its SQL with the names in it.
type builder struct {
	conn   *pgx.Conn
	schema string
	path   string // value of search_path
	secure string // the statement that secures the home
}

func newBuilder(conn *pgx.Conn, schema, tenant string) (*builder, error) {
	const longest = 63 // PostgreSQL cuts longer names, silently, into another home's
	if schema == "" || len(schema) > longest || strings.ContainsRune(schema, 0) {
		return nil, fmt.Errorf("the name of a schema has 1 to %d bytes", longest)
	}
	if status := conn.PgConn().TxStatus(); status != 'I' {
		return nil, fmt.Errorf("the connection is in a transaction (status %c)", status)
	}
	name, err := quoteLiteral(conn, schema)
	if err != nil {
		return nil, err
	}
	owner := "null"
	if tenant != "" {
		if owner, err = quoteLiteral(conn, tenant); err != nil {
			return nil, err
		}
	}
	return &builder{
		conn:   conn,
		schema: schema,
		path:   pgx.Identifier{schema}.Sanitize() + ", extensions, pg_temp",
		secure: fmt.Sprintf("call landlord.secure(%s, %s)", name, owner),
	}, nil
}

// advance runs the next files that go together and reports whether any are left.
func (b *builder) advance(ctx context.Context, s *Set) (done bool, err error) {
	var alone *Migration
	err = pgx.BeginFunc(ctx, b.conn, func(tx pgx.Tx) error {
		// Lock order: this key, then whatever the files lock. A second Build waits here, without a
		// time-out of its own, and then sees what the first has done.
		const lock = `select pg_advisory_xact_lock(hashtextextended('landlord build ' || $1, 0))`
		if _, err := tx.Exec(ctx, lock, b.schema); err != nil {
			return fmt.Errorf("wait for another build of this home: %w", err)
		}
		applied, err := readApplied(ctx, tx, b.schema)
		if err != nil {
			return err
		}
		pending, err := s.pending(applied)
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
		text := b.settings("set local ") + strings.Join(m.Statements, "\n;\n") + "\n;\nset constraints all immediate"
		if err := exec(ctx, b.conn, text); err != nil {
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
		drop := "drop index concurrently if exists " + pgx.Identifier{b.schema, index}.Sanitize()
		if err := exec(ctx, conn, drop); err != nil {
			return fmt.Errorf("%s: remove what an interrupted build left: %w", m.File, err)
		}
	}
	for _, statement := range m.Statements {
		if err := exec(ctx, conn, statement); err != nil {
			return fmt.Errorf("%s: %w", m.File, err)
		}
	}
	return pgx.BeginFunc(ctx, b.conn, func(tx pgx.Tx) error {
		return b.record(ctx, tx, []Migration{m})
	})
}

// record secures what files made and writes that they are applied.
func (b *builder) record(ctx context.Context, tx pgx.Tx, files []Migration) error {
	if err := exec(ctx, b.conn, b.secure); err != nil {
		return fmt.Errorf("secure new tables: %w", err)
	}
	versions, checksums := make([]int64, len(files)), make([]string, len(files))
	for i, m := range files {
		versions[i], checksums[i] = m.Version, m.Checksum
	}
	const q = `
insert into landlord.schema_version (schema, version, checksum)
select $1, v, c from unnest($2::bigint[], $3::text[]) as n(v, c)`
	if _, err := tx.Exec(ctx, q, b.schema, versions, checksums); err != nil {
		return fmt.Errorf("record versions: %w", err)
	}
	return nil
}

func (b *builder) settings(set string) string {
	return fmt.Sprintf("%[1]slock_timeout = %[2]d;%[1]sstatement_timeout = %[3]d;%[1]ssearch_path = %[4]s;%[1]stimezone = 'UTC';\n",
		set, lockTimeout.Milliseconds(), statementTimeout.Milliseconds(), b.path)
}

// exec sends text as one message of the simple protocol, the only one that takes several statements.
func exec(ctx context.Context, conn *pgx.Conn, text string) error {
	_, err := conn.PgConn().Exec(ctx, text).ReadAll()
	return err
}

// quoteLiteral quotes s as a string constant for the simple protocol, which has no parameters.
func quoteLiteral(conn *pgx.Conn, s string) (string, error) {
	if strings.ContainsRune(s, 0) {
		return "", errors.New("a tenant's id has no zero bytes")
	}
	escaped, err := conn.PgConn().EscapeString(s)
	return "'" + escaped + "'", err
}
