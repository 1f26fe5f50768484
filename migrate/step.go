package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// Limits bound what a migration may take from those who work in the home. Zero: no limit.
type Limits struct {
	Lock      time.Duration // how long a statement waits for a lock, and others behind it
	Statement time.Duration // how long a statement runs
}

// Attempt says on whose behalf a migration is applied. The data remembers it: who comes later with a lower lease, of whatever run,
// is refused.
type Attempt struct {
	Run   string // uuid
	Lease int64  // rises over all attempts at a target, in this run and in those before
}

// ErrOvertaken reports that another worker has taken over a target. Nothing was changed, and it is no longer the caller's.
var ErrOvertaken = errors.New("another worker has taken the target over")

// Apply applies one migration to a target that has all before it, in one round trip (a few more for one in Go): a transaction that refuses what must
// not be done (see landlord.begin_step), runs the file, secures what it made and writes its version row. conn's login has
// BYPASSRLS and is in no transaction. A migration that the target has already, with the same checksum, is no error; ran
// tells whether this call applied it.
//
// After an error the target is as it was, and conn is in no transaction or closed. That of a file marked NO TRANSACTION is
// the exception: it must be one statement; it is not bound by l, for it takes its time and holds nobody up meanwhile; an index
// that an earlier attempt left invalid is dropped first, one that it left whole is kept, and one that turns out invalid is
// an error.
func (m Migration) Apply(ctx context.Context, conn *pgx.Conn, t Target, by Attempt, l Limits) (ran bool, err error) {
	if m.Scope != t.Scope {
		return false, fmt.Errorf("%s: its scope is %s, the target's %s", m.File, m.Scope, t.Scope)
	}
	sql, err := t.compile(conn)
	if err != nil {
		return false, err
	}
	return m.step(conn, sql, by, l).run(ctx)
}

// Fence has a target refuse everybody whose lease is lower than that of by, as a step on its behalf would, without changing anything
// else there. What somebody was doing there is over when it returns: it may have been committed.
func Fence(ctx context.Context, conn *pgx.Conn, t Target, by Attempt, l Limits) error {
	sql, err := t.compile(conn)
	if err != nil {
		return err
	}
	err = exec(ctx, conn, fmt.Sprintf(`begin;%s
select pg_advisory_xact_lock(hashtextextended('landlord build ' || %[2]s, 0));
insert into landlord.schema_step as s (schema, run, lease) values (%[2]s, '%[3]s', %[4]d)
    on conflict (schema) do update set run = excluded.run, lease = excluded.lease where s.lease < excluded.lease;
commit`, settings("set local ", l, sql.path), sql.quoted, by.Run, by.Lease))
	if err != nil {
		leave(ctx, conn)
		return fmt.Errorf("fence off earlier runs: %w", err)
	}
	return nil
}

// step is the migration's way up.
func (m Migration) step(conn *pgx.Conn, t target, by Attempt, l Limits) step {
	return step{
		conn: conn, migration: m, target: t, by: by, limits: l,
		begins: "begin_step", statements: m.Statements, function: m.up, indexes: m.indexes,
	}
}

func (s step) run(ctx context.Context) (ran bool, err error) {
	m := s.migration
	switch {
	case m.NoTransaction:
		err = s.alone(ctx)
	case m.inGo:
		err = s.call(ctx)
	default:
		err = exec(ctx, s.conn, s.text())
	}
	if err != nil {
		leave(ctx, s.conn)
	}
	switch {
	case pgerr.Is(err, pgerr.Applied):
		return false, nil
	case pgerr.Is(err, pgerr.Overtaken):
		return false, fmt.Errorf("%s: %w", m.File, ErrOvertaken)
	case err != nil:
		return false, fmt.Errorf("%s: %w", m.File, err)
	}
	return true, nil
}

// leave ends the transaction that an error has left open. A connection on which that fails is of no use.
func leave(ctx context.Context, conn *pgx.Conn) {
	if conn.IsClosed() || conn.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := exec(ctx, conn, "rollback"); err != nil {
		_ = conn.Close(ctx) // it is given up
	}
}

// step is one call of Apply or Undo.
type step struct {
	conn      *pgx.Conn
	migration Migration
	target    target
	by        Attempt
	limits    Limits

	begins     string // the function that gives leave
	statements []string
	function   GoFunc
	indexes    []string // what the statements make concurrently
	undo       bool
}

// begin is the beginning of every transaction: settings that an earlier file has left on the connection are taken back.
func (s step) begin() string {
	return "begin isolation level read committed;reset all;" + settings("set local ", s.limits, s.target.path)
}

func (s step) beginStep(alone bool) string {
	return fmt.Sprintf("select landlord.%s(%s, %d, '%s', '%s', %d, %t)",
		s.begins, s.target.quoted, s.migration.Version, s.migration.Checksum, s.by.Run, s.by.Lease, alone)
}

// end secures what was made and records the version. Deferred constraints are checked before: what waits to be checked keeps
// tables from being altered.
func (s step) end() string {
	var b strings.Builder
	b.WriteString("set constraints all immediate;\n")
	if s.target.secure != "" {
		b.WriteString(s.target.secure + ";\n")
	}
	if s.undo {
		fmt.Fprintf(&b, "select landlord.end_undo(%s, %d, '%s', %d);commit", s.target.quoted, s.migration.Version, s.by.Run, s.by.Lease)
		return b.String()
	}
	fmt.Fprintf(&b, "select landlord.end_step(%s, %d, '%s', '%s', '%s', %d, pg_catalog.current_setting('search_path'));commit", s.target.quoted, s.migration.Version,
		s.migration.Checksum, s.migration.Phase, s.by.Run, s.by.Lease)
	return b.String()
}

// text is the whole step as one message of the simple protocol. An error in it skips all that follows.
func (s step) text() string {
	return s.begin() + s.beginStep(false) + ";\n" + strings.Join(s.statements, "\n;\n") + "\n;\n" + s.end()
}

// call is a step of a migration in Go. It takes a few round trips, and holds its locks meanwhile.
func (s step) call(ctx context.Context) error {
	if err := exec(ctx, s.conn, s.begin()+s.beginStep(false)); err != nil {
		return err
	}
	if err := runGo(ctx, s.conn, s.function); err != nil {
		return err
	}
	return exec(ctx, s.conn, s.end())
}

// alone runs a file that PostgreSQL refuses to run in a transaction.
func (s step) alone(ctx context.Context) (err error) {
	statement, err := single(s.statements)
	if err != nil {
		return err
	}
	// The lock of begin_step, held by the session. Who has it is at work on this target or builds the home: a statement that
	// waited for it would itself hold up an index that is built concurrently.
	const lock = `select pg_try_advisory_lock(hashtextextended('landlord build ' || $1, 0))`
	var locked bool
	if err := s.conn.QueryRow(ctx, lock, s.target.place).Scan(&locked); err != nil {
		return err
	}
	if !locked {
		return errBusy
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		leave(ctx, s.conn)
		const unlock = `select pg_advisory_unlock(hashtextextended('landlord build ' || $1, 0))`
		if _, unlockErr := s.conn.Exec(ctx, unlock, s.target.place); unlockErr != nil {
			_ = s.conn.Close(ctx) // which unlocks as well
		}
	}()
	var again bool
	if err := s.conn.QueryRow(ctx, s.beginStep(true), pgx.QueryExecModeSimpleProtocol).Scan(&again); err != nil {
		return err
	}
	if err := exec(ctx, s.conn, "reset all;"+settings("set ", Limits{}, s.target.path)); err != nil {
		return err
	}
	whole, err := s.cleanUp(ctx, again)
	if err != nil {
		return fmt.Errorf("remove what an interrupted attempt left: %w", err)
	}
	if !whole {
		if err := exec(ctx, s.conn, statement); err != nil {
			return errors.Join(err, s.forget(ctx))
		}
	}
	if err := s.verify(ctx); err != nil {
		return err
	}
	return exec(ctx, s.conn, s.begin()+s.end())
}

// forget takes back that the file has begun: it has failed, so that an index which is there is not its own. Only who is cut
// off leaves the note behind.
func (s step) forget(ctx context.Context) error {
	if s.conn.IsClosed() {
		return nil
	}
	const q = `update landlord.schema_step set unfinished = null where schema = $1 and run = $2::text::uuid and lease = $3`
	_, err := s.conn.Exec(ctx, q, s.target.place, s.by.Run, s.by.Lease)
	return err
}

var errBusy = &busyError{}

// busyError reports a target that another process works on. It is as good as a lock that was waited for in vain.
type busyError struct{}

func (*busyError) Error() string { return "another process is at work on the target" }

// Check reports what keeps Apply from applying the migration anywhere.
func (m Migration) Check() error {
	if m.Batched() {
		return m.inspectBackfill()
	}
	if !m.NoTransaction {
		return nil
	}
	if _, err := single(m.Statements); err != nil {
		return fmt.Errorf("%s: %w", m.File, err)
	}
	return nil
}

// Rebuilds reports whether the migration makes an index of this name concurrently: one that an attempt has left invalid is dropped by
// the next.
func (m Migration) Rebuilds(index string) bool { return slices.Contains(m.indexes, index) }

// single is the only statement of a file or of its Down section.
func single(statements []string) (string, error) {
	count := 0
	for _, text := range statements {
		tokens, err := sqltext.Tokenize(text)
		if err != nil {
			return "", err
		}
		count += len(sqltext.Split(tokens))
	}
	if count != 1 || len(statements) != 1 {
		return "", fmt.Errorf("it is marked NO TRANSACTION and has %d statements: cut off in between, it could not be gone on with; "+
			"give each a file of its own", count)
	}
	return statements[0], nil
}

// indexStates reads which of some indexes are there, and whether they are valid.
func (s step) indexStates(ctx context.Context, names []string) (map[string]bool, error) {
	const q = `
select c.relname::text, i.indisvalid
  from pg_class c join pg_index i on i.indexrelid = c.oid
 where c.relnamespace = to_regnamespace(quote_ident($1)) and c.relname = any($2)`
	states := make(map[string]bool)
	rows, err := s.conn.Query(ctx, q, s.target.schema, names)
	if err != nil {
		return nil, err
	}
	var name string
	var valid bool
	_, err = pgx.ForEachRow(rows, []any{&name, &valid}, func() error { states[name] = valid; return nil })
	return states, err
}

// cleanUp drops the index that the statement makes if it is invalid. It reports whether all is done already: an attempt that was
// cut off (again) had finished, and only its version row is missing, or left.
func (s step) cleanUp(ctx context.Context, again bool) (whole bool, err error) {
	if s.undo && again && len(s.migration.indexes) > 0 {
		left, err := s.indexStates(ctx, s.migration.indexes)
		return err == nil && len(left) == 0, err
	}
	if len(s.indexes) == 0 {
		return false, nil
	}
	states, err := s.indexStates(ctx, s.indexes)
	if err != nil {
		return false, err
	}
	for name, valid := range states {
		if valid {
			whole = again
			continue
		}
		if err := exec(ctx, s.conn, "drop index concurrently "+pgx.Identifier{s.target.schema, name}.Sanitize()); err != nil {
			return false, err
		}
	}
	return whole, nil
}

// verify refuses to record an index that is not there or not valid.
func (s step) verify(ctx context.Context) error {
	if len(s.indexes) == 0 {
		return nil
	}
	states, err := s.indexStates(ctx, s.indexes)
	if err != nil {
		return err
	}
	for _, name := range s.indexes {
		if !states[name] {
			return fmt.Errorf("index %s is not valid after it was built", name)
		}
	}
	return nil
}

// Verdict is what an error of Apply asks for.
type Verdict int

// The verdicts.
const (
	Final       Verdict = iota // the file or the data is at fault: the same again fails again
	Again                      // others stood in the way: a lock, a deadlock, the time
	Unreachable                // the server was not there, or has to be spared; of the file it says nothing
	Held                       // the home is being moved; it can be tried again when that is over
)

// Judge says what err, of Apply or of connecting, asks for.
func Judge(err error) Verdict {
	_, busy := errors.AsType[*busyError](err)
	switch code := pgerr.Code(err); {
	case pgerr.Is(err, pgerr.Held):
		return Held
	case busy, pgerr.Is(err, pgerr.LockNotAvailable, pgerr.DeadlockDetected, pgerr.SerializationFailure, pgerr.QueryCanceled):
		return Again
	case pgerr.Is(err, pgerr.OutOfMemory): // mostly the table of locks, which all on the server share
		return Again
	// A full disk is final: each attempt would fill it again, for all who live there.
	case pgerr.Is(err, "08", pgerr.TooManyConnections, pgerr.AdminShutdown, pgerr.CrashShutdown, pgerr.CannotConnectNow):
		return Unreachable
	case code == "" && isNetwork(err), errors.Is(err, ErrStrained):
		return Unreachable
	}
	return Final
}

// isNetwork reports whether err comes from the network or from waiting for it.
func isNetwork(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, pgconn.ErrConnClosed)
}
