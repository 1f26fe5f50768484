package follow

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/move/table"
)

// errMissing reports a row that is not at the target though a change to it does not tell all of its values.
var errMissing = errors.New("a row is not at the target")

// unseen leaves out what the copy has brought already. The two halves of a new key are looked at apart: the old and the new
// key may lie in chunks that were copied at different times.
func (a *applier) unseen(ctx context.Context, changes []change) ([]change, error) {
	asked := map[*target]*question{}
	for _, c := range changes {
		if a.early(c) {
			if asked[c.target] == nil {
				asked[c.target] = &question{}
			}
			asked[c.target].add(c)
		}
	}
	if len(asked) == 0 {
		return changes, nil
	}
	for t, q := range asked {
		var err error
		if q.seen, err = a.f.cfg.Copied.Seen(ctx, t.pair, q.keys, q.xids); err != nil {
			return nil, err
		}
	}
	left := make([]change, 0, len(changes))
	for _, c := range changes {
		q := asked[c.target]
		switch {
		case !a.early(c):
		case c.act == rename:
			goneSeen, cameSeen := q.next(), q.next()
			switch {
			case goneSeen && cameSeen:
				continue
			case goneSeen: // nothing is there under the old key
				c.act = put
			case cameSeen:
				c.act = drop
			}
		case q.next():
			continue
		}
		left = append(left, c)
	}
	return left, nil
}

// early tells whether the change is so old that the copy may have brought it, or what came after it.
func (a *applier) early(c change) bool {
	return a.f.cfg.Copied != nil && c.xid < a.f.cfg.Copied.Until()
}

// question is what Copied is asked of a table: of each early change its old key, its new one, or both, in this order.
type question struct {
	keys [][]string
	xids []uint64
	seen []bool // the answers that are not taken yet
}

func (q *question) add(c change) {
	if c.act == drop || c.act == rename {
		q.keys, q.xids = append(q.keys, texts(c.old)), append(q.xids, c.xid)
	}
	if c.act != drop {
		q.keys, q.xids = append(q.keys, texts(c.target.keyOf(c.row))), append(q.xids, c.xid)
	}
}

func (q *question) next() bool {
	seen := q.seen[0]
	q.seen = q.seen[1:]
	return seen
}

func texts(key repl.Tuple) []string {
	out := make([]string, len(key))
	for i, v := range key {
		out[i] = string(v.Text)
	}
	return out
}

// apply brings the rows to what the changes come to. If rows are in each other's way as a set, as when two exchange a unique
// value, they are applied in two halves, down to single changes in the order of the source.
func (a *applier) apply(ctx context.Context, changes []change) error {
	if len(changes) == 0 {
		return nil
	}
	err := a.try(ctx, changes)
	if !inTheWay(err) && !errors.Is(err, errMissing) {
		return err
	}
	if _, err := a.exec(ctx, plain("rollback to savepoint landlord"), plain("release savepoint landlord")); err != nil {
		return fmt.Errorf("apply in smaller pieces: %w", err)
	}
	if len(changes) == 1 {
		return a.resolve(ctx, changes[0], err)
	}
	half := len(changes) / 2
	if err := a.apply(ctx, changes[:half]); err != nil {
		return err
	}
	return a.apply(ctx, changes[half:])
}

// try applies changes under a savepoint.
func (a *applier) try(ctx context.Context, changes []change) error {
	if _, err := a.exec(ctx, plain("savepoint landlord")); err != nil {
		return err
	}
	s := newSet(len(changes))
	for _, c := range changes {
		if s.add(c) {
			continue
		}
		if err := a.flush(ctx, s); err != nil {
			return err
		}
		s = newSet(0)
		if err := a.one(ctx, s, c); err != nil {
			return err
		}
	}
	if err := a.flush(ctx, s); err != nil {
		return err
	}
	a.release = true
	return nil
}

// one applies a change that the changes before it do not complete; the rows before it are written.
func (a *applier) one(ctx context.Context, s *set, c change) error {
	t, key := c.target, c.target.keyOf(c.row)
	switch {
	case c.act == put:
		return a.fill(ctx, s, c)
	case c.act == rename && !t.fixedKey() && !t.replaces:
		rows, err := a.exec(ctx, arrays(t.renameSQL(told(c.row)), []repl.Tuple{slices.Concat(c.row, c.old)}, len(c.row)+len(c.old)))
		if err != nil || rows[0] == 1 {
			return a.describe(t, err)
		}
	}
	if c.act == rename {
		key = c.old
	}
	before, err := ask(ctx, a.target, t, t.pair.Target, key)
	if err != nil {
		return err
	}
	if c.act == rename {
		s.put(state{target: t, act: drop, key: c.old})
	}
	if before == nil {
		return a.fill(ctx, s, c)
	}
	row := merge(before, c.row)
	s.put(state{target: t, act: put, key: t.keyOf(row), row: row})
	return nil
}

// fill completes a row from the source as it is now. Where it is gone, or has another key by now, the stream will tell.
func (a *applier) fill(ctx context.Context, s *set, c change) error {
	conn, err := a.source.get(ctx)
	if err != nil {
		return err
	}
	now, err := ask(ctx, conn, c.target, c.target.pair.Source, c.target.keyOf(c.row))
	if now == nil || err != nil {
		return err
	}
	row := merge(now, c.row)
	s.put(state{target: c.target, act: put, key: c.target.keyOf(row), row: row})
	return nil
}

// ask reads a row of one side by its key; nil: there is none.
func ask(ctx context.Context, conn *pgx.Conn, t *target, side table.Table, key repl.Tuple) (repl.Tuple, error) {
	var args [][]byte
	for _, v := range key {
		args = append(args, v.Text)
	}
	result := conn.PgConn().ExecParams(ctx, t.askSQL(side), args, nil, nil, nil).Read()
	if result.Err != nil {
		return nil, fmt.Errorf("read a row of table %s: %w", side.Name, result.Err)
	}
	if len(result.Rows) == 0 {
		return nil, nil
	}
	row := make(repl.Tuple, len(result.Rows[0]))
	for i, text := range result.Rows[0] {
		row[i] = repl.Value{Kind: repl.Null}
		if text != nil {
			row[i] = repl.Value{Kind: repl.Text, Text: text}
		}
	}
	return row, nil
}

// resolve applies a single change that could not be applied.
//
// A patch of a row that is not there is completed from the source.
//
// A row in the way of another is one of the tenant's that is ahead: the copy's chunks are read at different times, and a row whose
// chunk was read after this change may have the value already that this row still has here. As the source never had both, this
// row is changed again before the other one got the value, and so before that chunk was read. That change comes yet, and is not left
// out, for this row's chunk was read before the one at hand. Until then the row is left out; it comes back, completed, before the
// stream is past the copy. None of this holds where no chunk of the table was read after the change, or for another tenant's row.
func (a *applier) resolve(ctx context.Context, c change, cause error) error {
	s := newSet(2)
	if errors.Is(cause, errMissing) {
		if err := a.fill(ctx, s, c); err != nil {
			return err
		}
		a.f.log.InfoContext(ctx, "a row was read again at the source", "move", a.f.cfg.Move, "table", c.target.pair.Source.Name)
		if cause = a.trySet(ctx, s); cause == nil {
			return nil
		}
	}
	if !inTheWay(cause) {
		return cause
	}
	if ahead := a.early(c) && a.f.cfg.Copied.Ahead(c.target.pair, c.xid); ahead {
		foreign, err := a.foreign(ctx, c, cause)
		if err != nil {
			return err
		}
		if !foreign {
			return a.leaveOut(ctx, c)
		}
	}
	return &ConflictError{Table: c.target.pair.Target.Name, err: cause}
}

// leaveOut removes the row that the change is about.
func (a *applier) leaveOut(ctx context.Context, c change) error {
	s := newSet(2)
	if c.act == rename {
		s.put(state{target: c.target, act: drop, key: c.old})
	}
	s.put(state{target: c.target, act: drop, key: c.target.keyOf(c.row)})
	return a.flush(ctx, s)
}

// foreign tells whether what is in the way may be another tenant's: the key leaves tenant_id out, and either it is more than columns,
// or another tenant has its values.
func (a *applier) foreign(ctx context.Context, c change, cause error) (bool, error) {
	t := c.target
	keys := t.pair.Target.Keys
	if pe, ok := errors.AsType[*pgconn.PgError](cause); ok { // a partition's key has a name of its own
		if i := slices.IndexFunc(keys, func(k table.Key) bool { return k.Name == pe.ConstraintName }); i >= 0 {
			keys = keys[i : i+1]
		}
	}
	for _, k := range keys {
		if !t.pair.Target.HasTenantID || slices.Contains(k.Columns, table.TenantID) {
			continue
		}
		places := make([]int, len(k.Columns))
		for i, name := range k.Columns {
			places[i] = slices.Index(t.values, name) // -1: it is computed
		}
		if !k.Plain() || slices.ContainsFunc(places, func(i int) bool { return i < 0 || c.row[i].Kind == repl.Unchanged }) {
			return true, nil
		}
		row := make(repl.Tuple, len(places))
		for i, at := range places {
			row[i] = c.row[at]
		}
		rows, err := a.exec(ctx, arrays(t.foreignSQL(k), []repl.Tuple{row}, len(row)))
		if err != nil || rows[0] > 0 {
			return true, a.describe(t, err)
		}
	}
	return false, nil
}

// trySet writes a set under a savepoint, and leaves the transaction usable if a row is in the way.
func (a *applier) trySet(ctx context.Context, s *set) error {
	if _, err := a.exec(ctx, plain("savepoint landlord")); err != nil {
		return err
	}
	err := a.flush(ctx, s)
	if inTheWay(err) {
		if _, undo := a.exec(ctx, plain("rollback to savepoint landlord"), plain("release savepoint landlord")); undo != nil {
			return undo
		}
		return err
	}
	a.release = err == nil
	return err
}

// flush writes a set: first the rows that are gone, then the others.
func (a *applier) flush(ctx context.Context, s *set) error {
	groups := s.groups()
	if len(groups) == 0 {
		return nil
	}
	statements := make([]statement, len(groups))
	for i, g := range groups {
		statements[i] = g.statement()
	}
	rows, err := a.exec(ctx, statements...)
	if err != nil {
		return a.describe(groups[0].target, err)
	}
	for i, g := range groups {
		if g.act == patch && rows[i] != int64(len(g.rows)) {
			return errMissing
		}
	}
	return nil
}

// describe says in which table an error has arisen, which PostgreSQL may know better.
func (a *applier) describe(t *target, err error) error {
	if err == nil {
		return nil
	}
	name := t.pair.Target.Name
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok && pe.TableName != "" {
		name = pe.TableName
	}
	return fmt.Errorf("apply changes to table %s: %w", name, err)
}
