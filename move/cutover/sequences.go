package cutover

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/internal/pgerr"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/move/table"
)

// Sequence is a sequence of the old home and the one that takes its place in the new home.
type Sequence struct {
	From, To table.Sequence
	// Shared tells that other tenants take numbers from To at the same time.
	Shared bool
}

// Sequences lists those that the columns of pairs take numbers from, and behind them those of both homes' schemas, from and to, that no
// column names: functions, triggers and the application take numbers from them. These stand for each other by their names. shared tells
// whether other tenants use the targets' too.
func Sequences(pairs []table.Pair, from, to []table.Sequence, shared bool) []Sequence {
	var list []Sequence
	for _, p := range pairs {
		for _, c := range p.Target.Columns {
			source, ok := p.Source.Column(c.Name)
			if !ok || c.Sequence == nil || source.Sequence == nil {
				continue
			}
			s := Sequence{From: *source.Sequence, To: *c.Sequence, Shared: shared}
			if !slices.Contains(list, s) {
				list = append(list, s)
			}
		}
	}
	for _, s := range from {
		i := slices.IndexFunc(to, func(t table.Sequence) bool { return t.Name == s.Name })
		if i < 0 || slices.ContainsFunc(list, func(l Sequence) bool { return l.From == s || l.To == to[i] }) {
			continue
		}
		list = append(list, Sequence{From: s, To: to[i], Shared: shared})
	}
	return list
}

// Margin is how many numbers a sequence that is the tenant's alone is taken further than needed.
const Margin = 100

// sharedReach is how many numbers of a sequence in use are taken one by one rather than under its lock.
const sharedReach = 10_000

// advanceEarly takes the sequences that are shared past what the old home has given out so far, before anybody waits.
func (a *attempt) advanceEarly(ctx context.Context) error {
	given, err := a.given(ctx)
	if err != nil {
		return err
	}
	return a.advanceShared(ctx, given)
}

// given reads what the old home's sequences have given out last, in the order of Config.Sequences.
func (a *attempt) given(ctx context.Context) ([]int64, error) {
	var from []table.Sequence
	for _, s := range a.cfg.Sequences {
		from = append(from, s.From)
	}
	return lastValues(ctx, a.fence, from)
}

// lastValues returns what each sequence has given out last. One that was never used has given what is before its start.
func lastValues(ctx context.Context, conn *pgx.Conn, sequences []table.Sequence) ([]int64, error) {
	if len(sequences) == 0 {
		return nil, nil
	}
	var names []string
	for _, s := range sequences {
		names = append(names, sequenceSQL(s))
	}
	const q = `
select coalesce(pg_sequence_last_value(s.seqrelid), s.seqstart - s.seqincrement)
  from unnest($1::text[]) with ordinality as w (name, i) join pg_sequence s on s.seqrelid = w.name::regclass
 order by w.i`
	rows, err := conn.Query(ctx, q, names)
	if err != nil {
		return nil, fmt.Errorf("read sequences: %w", err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("read sequences: %w", err)
	}
	return values, nil
}

// advance takes the new home's sequences past given, and makes sure that the new home is still this mover's to open: whoever takes it
// over from now on finds the fence up, and waits until what becomes of the attempt is known. The follower has perhaps written nothing
// there since the fence was raised, and so has not looked.
func (a *attempt) advance(ctx context.Context, given []int64) error {
	if err := a.advanceShared(ctx, given); err != nil {
		return err
	}
	var names []string
	var last []int64
	for i, s := range a.cfg.Sequences {
		if !s.Shared {
			names, last = append(names, sequenceSQL(s.To)), append(last, given[i])
		}
	}
	// Nobody uses them as long as the fence stands as it must: once the home is open, setting one would give numbers out again. Not
	// past their end, which the old home's may be near.
	const q = `
with held as materialized (` + isolation.HoldFenceSQL + `)
select setval(s.seqrelid, case when s.seqincrement < 0 then least(v.wanted, v.have) else greatest(v.wanted, v.have) end)
  from held
  left join (unnest($5::text[], $6::bigint[]) as w (name, given)
             join pg_sequence s on s.seqrelid = w.name::regclass
             cross join lateral (select coalesce(pg_sequence_last_value(s.seqrelid), s.seqstart) as have,
                   greatest(s.seqmin, least(s.seqmax, w.given + s.seqincrement::numeric * $7))::bigint as wanted) v) on true`
	key := a.cfg.To.Key
	tag, err := a.to.Exec(ctx, q, key.Tenant, key.Home, string(a.cfg.ToState), a.cfg.Owner, names, last, Margin)
	if err == nil && tag.RowsAffected() == 0 {
		var stands isolation.Fence
		if stands, err = isolation.ReadFence(ctx, a.to, key); err == nil {
			err = &isolation.FenceError{Act: "go on to the commit point", Home: key.Home, Stands: &stands}
		}
	}
	if err != nil {
		return fmt.Errorf("set sequences, and keep the new home: %w", err)
	}
	return nil
}

// advanceShared takes the sequences that others use at the same time past given, where they are behind. Setting one would race with
// those who take numbers from it: one of them would get a number that is given out again. So the numbers in between are taken, as
// anybody takes them, or, where these are many, the sequence is set while its lock keeps everybody else away.
func (a *attempt) advanceShared(ctx context.Context, given []int64) error {
	var shared []table.Sequence
	var wanted []int64
	for i, s := range a.cfg.Sequences {
		if s.Shared {
			shared, wanted = append(shared, s.To), append(wanted, given[i])
		}
	}
	have, err := lastValues(ctx, a.to, shared)
	if err != nil {
		return err
	}
	for i, s := range shared {
		missing := (wanted[i] - have[i]) / s.Increment
		switch {
		case missing <= 0:
		case missing <= sharedReach:
			const q = `select count(nextval($1::text::regclass)) from generate_series(1, $2)`
			_, err = a.to.Exec(ctx, q, sequenceSQL(s), missing)
		default:
			err = setShared(ctx, a.to, s, wanted[i])
		}
		if err != nil {
			return fmt.Errorf("advance sequence %s: %w", sequenceSQL(s), err)
		}
	}
	return nil
}

// setShared sets a sequence under its lock, which waits for every open transaction that has taken a number.
func setShared(ctx context.Context, conn *pgx.Conn, s table.Sequence, wanted int64) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local lock_timeout = '250ms'`); err != nil { // others wait behind us
			return err
		}
		// The increment that it has: all that counts is the lock.
		if _, err := tx.Exec(ctx, fmt.Sprintf("alter sequence %s increment by %d", sequenceSQL(s), s.Increment)); err != nil {
			return err
		}
		const q = `
select setval(seqrelid, $2) from pg_sequence
 where seqrelid = $1::text::regclass and ($2 - coalesce(pg_sequence_last_value(seqrelid), seqstart - seqincrement)) / seqincrement > 0`
		_, err := tx.Exec(ctx, q, sequenceSQL(s), wanted)
		return err
	})
	if pgerr.Is(err, pgerr.LockNotAvailable) {
		return fmt.Errorf("transactions that have taken numbers from it are open for too long: %w", err)
	}
	return err
}

func sequenceSQL(s table.Sequence) string { return pgx.Identifier{s.Schema, s.Name}.Sanitize() }
