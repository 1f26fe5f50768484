package follow

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/repl"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move/table"
)

// reader turns the stream into pieces.
type reader struct {
	f         *Follower
	queue     *queue
	stream    *repl.Conn
	source    lazy
	from      repl.LSN // what was committed before is applied
	relations map[uint32]*relation
	newest    uint64 // transaction id with its epoch, near which the stream's are

	xid   uint64 // of the transaction that is being read
	known bool   // it is applied already
	piece piece
}

// open begins to stream. Whoever still reads the slot is of an earlier process, or of a connection of ours that was given up:
// the fence's row says that this one is in charge now.
func (r *reader) open(ctx context.Context) (err error) {
	if r.stream, err = r.f.cfg.Stream(ctx); err != nil {
		return err
	}
	r.stream.Busy = r.queue.busy
	if r.newest, err = r.stream.NextXID(ctx); err != nil {
		return err
	}
	err = r.stream.Start(ctx, r.f.cfg.Slot, r.from, r.f.cfg.Publication)
	if _, active := errors.AsType[*repl.SlotActiveError](err); active {
		if err := r.stream.Evict(ctx, r.f.cfg.Slot); err != nil {
			return err
		}
		err = r.stream.Start(ctx, r.f.cfg.Slot, r.from, r.f.cfg.Publication)
	}
	return err
}

func (r *reader) close(ctx context.Context) {
	if r.stream != nil {
		end(ctx, r.stream)
	}
	r.source.close(ctx)
}

func (r *reader) run(ctx context.Context) error {
	r.f.note(func(s *standing) { s.within, s.handed = false, r.from })
	for {
		msg, err := r.stream.Receive(ctx)
		if err != nil {
			return err
		}
		if err := r.read(ctx, msg); err != nil {
			return err
		}
	}
}

func (r *reader) read(ctx context.Context, msg repl.Message) error {
	switch m := msg.(type) {
	case repl.Begin:
		r.begin(m)
	case repl.Commit:
		return r.commit(ctx, m)
	case *repl.Relation:
		return r.describe(ctx, m)
	case repl.Insert:
		return r.change(ctx, m.Relation, func(rel *relation) ([]change, error) { return rel.insert(r.xid, m) })
	case repl.Update:
		return r.change(ctx, m.Relation, func(rel *relation) ([]change, error) { return rel.update(r.xid, m) })
	case repl.Delete:
		return r.change(ctx, m.Relation, func(rel *relation) ([]change, error) { return rel.delete(r.xid, m), nil })
	case repl.Truncate:
		return fmt.Errorf("%w: %s", ErrTruncate, m.Relations[0].Name)
	case repl.Logical:
		return r.message(ctx, m)
	case repl.Keepalive:
		r.f.note(func(s *standing) { s.Received = max(s.Received, m.End) })
		if m.Reply {
			return r.stream.Acknowledge(ctx, r.f.forgettable())
		}
	}
	return nil
}

func (r *reader) begin(m repl.Begin) {
	// The server's next id was this session's first, and no open transaction is 2^31 ids away from it.
	r.xid = r.newest + uint64(int64(int32(m.XID-uint32(r.newest))))
	r.newest = max(r.newest, r.xid)
	r.known = m.FinalLSN < r.from
	r.piece = piece{at: m.At}
	r.f.note(func(s *standing) { s.within = true })
}

func (r *reader) commit(ctx context.Context, m repl.Commit) error {
	p := r.piece
	r.piece = piece{}
	p.end, p.transactions = m.EndLSN, 1
	for i := range p.marks {
		p.marks[i].at = m.EndLSN
	}
	if r.known {
		p = piece{end: m.EndLSN, at: p.at}
	}
	return r.hand(ctx, p)
}

// hand gives a piece to the applier.
func (r *reader) hand(ctx context.Context, p piece) error {
	r.f.note(func(s *standing) {
		if p.end != 0 {
			s.handed, s.within = p.end, false
			s.Received = max(s.Received, p.end)
		}
		if s.oldest.IsZero() {
			s.oldest = p.at
		}
	})
	return r.queue.put(ctx, p)
}

func (r *reader) message(ctx context.Context, m repl.Logical) error {
	switch {
	case m.Prefix != isolation.MessagePrefix:
		return nil
	case m.Transactional:
		r.piece.marks = append(r.piece.marks, position{token: string(m.Content)})
		return nil
	}
	return r.hand(ctx, piece{end: m.LSN, marks: []position{{token: string(m.Content), at: m.LSN}}})
}

func (r *reader) change(ctx context.Context, told *repl.Relation, read func(*relation) ([]change, error)) error {
	rel := r.relations[told.ID]
	if rel == nil {
		return fmt.Errorf("%w: %s was none of the move's tables", ErrSchemaChanged, told.Name)
	}
	if r.known {
		return nil
	}
	changes, err := read(rel)
	if err != nil {
		return err
	}
	for _, c := range changes {
		r.piece.bytes += c.size()
	}
	r.piece.changes = append(r.piece.changes, changes...)
	if len(r.piece.changes) < r.queue.batch && r.piece.bytes < pieceBytes {
		return nil
	}
	part := r.piece
	r.piece = piece{at: part.at, marks: part.marks}
	part.marks = nil
	return r.hand(ctx, part)
}

// describe compares a table with what it was when the move began.
func (r *reader) describe(ctx context.Context, m *repl.Relation) error {
	i := slices.IndexFunc(r.f.targets, func(t *target) bool {
		return t.pair.Source.Schema == m.Schema && t.pair.Source.Name == m.Name
	})
	if i < 0 {
		delete(r.relations, m.ID) // a partition: its rows are told as its root's
		return nil
	}
	t := r.f.targets[i]
	types, err := r.types(ctx, m)
	if err != nil {
		return err
	}
	var had, has []string
	for _, c := range t.pair.Source.Columns {
		if c.Generated == "" {
			had = append(had, c.Name+" "+c.Type)
		}
	}
	rel := &relation{target: t}
	at := map[string]int{}
	for n, c := range m.Columns {
		has = append(has, c.Name+" "+types[n])
		at[c.Name] = n
	}
	if !slices.Equal(had, has) {
		return fmt.Errorf("%w: %s had the columns %q, and has %q", ErrSchemaChanged, m.Name, had, has)
	}
	for _, name := range t.values {
		rel.values = append(rel.values, at[name])
	}
	for _, name := range t.key {
		if !m.Columns[at[name]].Key {
			return fmt.Errorf("%w: %s is not part of the replica identity of %s any more", ErrSchemaChanged, name, m.Name)
		}
		rel.key = append(rel.key, at[name])
	}
	r.relations[m.ID] = rel
	return nil
}

// types names the types of a table's columns as package table does.
func (r *reader) types(ctx context.Context, m *repl.Relation) ([]string, error) {
	conn, err := r.source.get(ctx)
	if err != nil {
		return nil, err
	}
	var oids []uint32
	var modifiers []int32
	for _, c := range m.Columns {
		oids, modifiers = append(oids, c.Type), append(modifiers, c.Modifier)
	}
	if err := setPath(ctx, conn, m.Schema); err != nil {
		return nil, err
	}
	const q = `
select format_type(t.oid, t.modifier) from unnest($1::oid[], $2::int[]) with ordinality as t (oid, modifier, n) order by n`
	rows, err := conn.Query(ctx, q, oids, modifiers)
	if err != nil {
		return nil, fmt.Errorf("read the types of %s: %w", m.Name, err)
	}
	types, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read the types of %s: %w", m.Name, err)
	}
	return types, nil
}

// setPath puts a home's schema in front, for what is computed from its rows, and for how its types are called.
func setPath(ctx context.Context, conn *pgx.Conn, schema string) error {
	const q = `
select set_config('search_path', quote_ident($1) || ', pg_catalog', false), set_config('quote_all_identifiers', 'off', false)`
	if _, err := conn.Exec(ctx, q, schema); err != nil {
		return fmt.Errorf("set the search path: %w", err)
	}
	return nil
}

// targets are the tables that are written.
func targets(pairs []table.Pair) []*target {
	out := make([]*target, len(pairs))
	for i, p := range pairs {
		out[i] = newTarget(p)
	}
	return out
}
