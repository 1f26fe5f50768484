package follow

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/isolation"
)

// applier writes pieces to the target.
type applier struct {
	f      *Follower
	life   context.Context // of Run: what At's functions get
	target *pgx.Conn
	source lazy
	lsn    repl.LSN // progress, as it stands at the target
	within bool     // a transaction is open
	failed error    // of a function given to At

	prepared map[string]string // names of prepared statements, by SQL
	release  bool              // a savepoint stands that is not needed any more
}

// settings of the session: foreign keys and triggers are the source's business, and rows are found by their keys, whatever
// the planner knows of a table that has just been filled.
const settings = `
set session_replication_role = replica; set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off`

const (
	beginProgressSQL = `
insert into landlord.move_progress (move, direction, lsn) values ($1, $2, $3) on conflict do nothing`
	readProgressSQL = `select lsn::text from landlord.move_progress where move = $1 and direction = $2`
	lockProgressSQL = `
select from landlord.move_progress where move = $1 and direction = $2 and lsn = $3 for update`
	moveProgressSQL = `update landlord.move_progress set lsn = $3 where move = $1 and direction = $2`
)

// open connects to the target, proves that it is ours to write to, and reads how far it is.
func (a *applier) open(ctx context.Context) (err error) {
	if a.target, err = a.f.cfg.Target(ctx); err != nil {
		return err
	}
	if _, err := a.target.Exec(ctx, settings+"; "+forms); err != nil {
		return fmt.Errorf("prepare the target's session: %w", err)
	}
	if err := setPath(ctx, a.target, a.f.cfg.Pairs[0].Target.Schema); err != nil {
		return err
	}
	cfg := a.f.cfg
	err = pgx.BeginFunc(ctx, a.target, func(tx pgx.Tx) error {
		if err := isolation.HoldFence(ctx, tx, cfg.Fence.FenceKey, cfg.Fence.State, cfg.Fence.Owner); err != nil {
			return fenced(err)
		}
		if _, err := tx.Exec(ctx, beginProgressSQL, cfg.Move, string(cfg.Direction), cfg.From); err != nil {
			return err
		}
		return tx.QueryRow(ctx, readProgressSQL, cfg.Move, string(cfg.Direction)).Scan(&a.lsn)
	})
	if err != nil {
		return fmt.Errorf("read the progress: %w", err)
	}
	a.f.note(func(s *standing) { s.Applied = max(s.Applied, a.lsn) })
	return nil
}

func fenced(err error) error {
	if errors.Is(err, isolation.ErrFence) {
		return fmt.Errorf("%w: %w", ErrFencedOff, err)
	}
	return err
}

func (a *applier) close(ctx context.Context) {
	if a.target != nil {
		end(ctx, a.target)
	}
	a.source.close(ctx)
	if a.f.cfg.Copied != nil {
		a.f.cfg.Copied.Close(ctx)
	}
}

// run applies what comes out of the queue.
func (a *applier) run(ctx context.Context, q *queue) error {
	for {
		p, err := q.next(ctx)
		if err != nil {
			return err
		}
		if len(p.changes) > 0 {
			if err := a.write(ctx, p.changes); err != nil {
				return err
			}
		}
		if p.end == 0 {
			a.f.note(func(s *standing) { s.Changes += int64(len(p.changes)) })
			continue
		}
		if err := a.commit(ctx, p.end); err != nil {
			return err
		}
		a.f.note(func(s *standing) {
			s.Applied = max(s.Applied, p.end)
			s.Changes += int64(len(p.changes))
			s.Transactions += int64(p.transactions)
			if s.oldest = p.at; s.Applied >= s.handed {
				s.oldest = time.Time{}
			}
		})
		if err := a.meet(p.marks); err != nil {
			return err
		}
	}
}

// meet calls those who wait for the messages.
func (a *applier) meet(marks []position) error {
	for _, at := range marks {
		if m := a.f.take(at.token); m != nil {
			if err := m.fn(a.life, at.at); err != nil {
				a.failed = &markError{err}
				return a.failed
			}
		}
	}
	return nil
}

// write applies changes in the open transaction, or begins one.
func (a *applier) write(ctx context.Context, changes []change) error {
	if err := a.begin(ctx); err != nil {
		return err
	}
	left, err := a.unseen(ctx, changes)
	if err != nil {
		return err
	}
	return a.apply(ctx, left)
}

// begin opens a transaction that may write: the fence says so, and the progress is where this session has left it.
func (a *applier) begin(ctx context.Context) error {
	if a.within {
		return nil
	}
	cfg := a.f.cfg
	rows, err := a.exec(ctx,
		plain("begin"),
		known(isolation.HoldFenceSQL, cfg.Fence.Tenant, cfg.Fence.Home, string(cfg.Fence.State), cfg.Fence.Owner),
		known(lockProgressSQL, cfg.Move, string(cfg.Direction), a.lsn.String()))
	switch {
	case err != nil:
		return fmt.Errorf("begin to apply: %w", err)
	case rows[1] != 1:
		return ErrFencedOff // the connection is closed, and the transaction with it
	case rows[2] != 1:
		return errOutrun
	}
	a.within = true
	return nil
}

// commit ends the transaction, if there is one, with all that was committed before end applied.
func (a *applier) commit(ctx context.Context, at repl.LSN) error {
	if !a.within {
		return nil
	}
	rows, err := a.exec(ctx, known(moveProgressSQL, a.f.cfg.Move, string(a.f.cfg.Direction), at.String()), plain("commit"))
	if err != nil {
		return fmt.Errorf("commit what is applied: %w", err)
	}
	if rows[0] != 1 {
		return fmt.Errorf("commit what is applied: %w", errOutrun)
	}
	a.lsn, a.within, a.release = at, false, false
	return nil
}

// statement is one of several that are sent together.
type statement struct {
	sql    string
	args   [][]byte
	arrays bool // the arguments are binary text[]
	keep   bool // prepared once
}

// arrays hands the first columns of rows to a statement.
func arrays(sql string, rows []repl.Tuple, width int) statement {
	s := statement{sql: sql, keep: true, arrays: true}
	for i := range width {
		s.args = append(s.args, array(rows, i))
	}
	return s
}

func plain(sql string) statement { return statement{sql: sql} }

func known(sql string, args ...string) statement {
	s := statement{sql: sql, keep: true}
	for _, a := range args {
		s.args = append(s.args, []byte(a))
	}
	return s
}

// exec sends statements in one packet and returns how many rows each has met.
func (a *applier) exec(ctx context.Context, statements ...statement) ([]int64, error) {
	conn := a.target.PgConn()
	batch := &pgconn.Batch{}
	skip := 0
	if a.release {
		a.release, skip = false, 1
		batch.ExecParams("release savepoint landlord", nil, nil, nil, nil)
	}
	for _, s := range statements {
		if !s.keep {
			batch.ExecParams(s.sql, nil, nil, nil, nil)
			continue
		}
		name, err := a.prepare(ctx, s)
		if err != nil {
			return nil, err
		}
		var format []int16
		if s.arrays {
			format = []int16{pgx.BinaryFormatCode}
		}
		batch.ExecPrepared(name, s.args, format, nil)
	}
	results, err := conn.ExecBatch(ctx, batch).ReadAll()
	if err != nil {
		return nil, err
	}
	rows := make([]int64, 0, len(statements))
	for _, r := range results[skip:] {
		rows = append(rows, r.CommandTag.RowsAffected())
	}
	return rows, nil
}

func (a *applier) prepare(ctx context.Context, s statement) (string, error) {
	if name, ok := a.prepared[s.sql]; ok {
		return name, nil
	}
	var oids []uint32
	if s.arrays {
		for range s.args {
			oids = append(oids, textArrayOID)
		}
	}
	name := "landlord_" + strconv.Itoa(len(a.prepared))
	if _, err := a.target.PgConn().Prepare(ctx, name, s.sql, oids); err != nil {
		return "", err
	}
	a.prepared[s.sql] = name
	return name, nil
}

// inTheWay tells of an error that one row is in the way of another. Applied in smaller pieces, or later, it may not be.
func inTheWay(err error) bool { return pgerr.Is(err, pgerr.UniqueViolation, pgerr.ExclusionViolation) }
