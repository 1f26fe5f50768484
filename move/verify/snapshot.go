// Package verify compares a tenant's rows at two homes, as they are at one position of the change stream.
//
// It guarantees that what it calls equal has the same rows, down to every column's text, and that what differs is told by its
// keys: counts, and sums of row hashes in which equal rows cannot cancel each other. Both sides are read from snapshots that show
// the same logical state, so that there are no false alarms while the tenant goes on writing. What to do about a difference is left
// to the caller.
package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/repl"
)

// Connect opens a session that sees all rows and writes values in the same form as any other of the mover's sessions.
type Connect func(context.Context) (*pgx.Conn, error)

// Snapshot is the state of a database at one moment, for as long as it is not closed. It holds back vacuum.
type Snapshot struct {
	// At is where the server's log was when it was taken, as far as it was on disk. What lay behind is lost if the server dies, and other
	// changes get those positions then: a stream that begins there must not take them for older than the snapshot.
	At repl.LSN

	conn    *pgx.Conn
	connect Connect
	id      string
}

// Take takes a snapshot on conn, which it owns from then on, also when it fails. connect opens more sessions that read from it.
func Take(ctx context.Context, conn *pgx.Conn, connect Connect) (*Snapshot, error) {
	s := &Snapshot{conn: conn, connect: connect}
	// One packet: the tenant may be waiting.
	const q = `
begin isolation level repeatable read read only;
select pg_current_wal_flush_lsn(), pg_export_snapshot()`
	results, err := conn.PgConn().Exec(ctx, q).ReadAll()
	if err == nil {
		row := results[1].Rows[0]
		s.id = string(row[1])
		s.At, err = repl.ParseLSN(string(row[0]))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("take a snapshot: %w", err), s.Close(ctx))
	}
	return s, nil
}

// Close lets the snapshot go. What reads from it fails.
func (s *Snapshot) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return s.conn.Close(ctx)
}

// session opens another session that reads from the snapshot.
func (s *Snapshot) session(ctx context.Context) (*pgx.Conn, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	// The id is PostgreSQL's own, of digits and dashes.
	if _, err := conn.PgConn().Exec(ctx, "begin isolation level repeatable read read only; set transaction snapshot '"+s.id+"'").ReadAll(); err != nil {
		closeConn(ctx, conn)
		return nil, fmt.Errorf("read from a snapshot: %w", err)
	}
	return conn, nil
}

func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
