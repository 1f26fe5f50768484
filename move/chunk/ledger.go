package chunk

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// entry is a chunk that is at the target.
type entry struct {
	n           int
	bounds      bounds
	snapshot    snapshot
	rows, bytes int64
}

// readLedger returns what the ledger has of a move, by the source's table and in the order of the keys.
func readLedger(ctx context.Context, target *pgx.Conn, move string) (map[string][]entry, error) {
	const q = `
select source_table, n, lo, hi, snapshot::text, rows, bytes from landlord.move_chunk where move = $1 order by source_table, n`
	rows, err := target.Query(ctx, q, move)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	ledger := make(map[string][]entry)
	var name, text string
	var e entry
	_, err = pgx.ForEachRow(rows, []any{&name, &e.n, &e.bounds.lo, &e.bounds.hi, &text, &e.rows, &e.bytes}, func() (err error) {
		e.snapshot, err = parseSnapshot(text)
		ledger[name] = append(ledger[name], e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	return ledger, nil
}

// write enters a chunk, in the transaction that brought its rows.
func (e entry) write(ctx context.Context, tx pgx.Tx, move, name string) error {
	const q = `
insert into landlord.move_chunk (move, source_table, n, lo, hi, snapshot, rows, bytes)
values ($1, $2, $3, $4, $5, $6::text::pg_snapshot, $7, $8)`
	_, err := tx.Exec(ctx, q, move, name, e.n, e.bounds.lo, e.bounds.hi, e.snapshot.text, e.rows, e.bytes)
	if err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	return nil
}

// snapshot is which transactions a chunk has seen.
type snapshot struct {
	text       string // as PostgreSQL writes it
	xmin, xmax uint64
	running    []uint64 // ascending
}

func parseSnapshot(text string) (s snapshot, err error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return s, fmt.Errorf("read snapshot %q: it has not three parts", text)
	}
	s.text = text
	if s.xmin, err = strconv.ParseUint(parts[0], 10, 64); err == nil {
		s.xmax, err = strconv.ParseUint(parts[1], 10, 64)
	}
	for _, x := range strings.FieldsFunc(parts[2], func(r rune) bool { return r == ',' }) {
		var xid uint64
		if xid, err = strconv.ParseUint(x, 10, 64); err != nil {
			break
		}
		s.running = append(s.running, xid)
	}
	if err != nil {
		return s, fmt.Errorf("read snapshot %q: %w", text, err)
	}
	slices.Sort(s.running)
	return s, nil
}

// sees tells whether what a committed transaction wrote is in the snapshot.
func (s snapshot) sees(xid uint64) bool {
	if xid < s.xmin {
		return true
	}
	_, running := slices.BinarySearch(s.running, xid)
	return xid < s.xmax && !running
}
