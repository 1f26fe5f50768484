package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Health is what a server may suffer while a backfill is at work in it, by what its standbys, slots and sessions say. From the
// first value on the backfill goes slower, from the second on it stops. Negative: whatever it is. What the login may not see
// counts as healthy: standbys are seen by members of pg_read_all_stats.
type Health struct {
	LagSlow, LagStop time.Duration // of a standby in replaying. Default: 5 s and 30 s
	// Bytes that a replication slot holds back, or that a standby has not replayed: of one whose replay stands still, PostgreSQL
	// may tell no lag. Default: 1 GiB and 8 GiB
	WALSlow, WALStop int64
	// Sessions of the database that wait for the locks of others, advisory ones apart. Default: 3 and 20.
	WaitingSlow, WaitingStop int
}

// Advice is what the health of a server allows.
type Advice int

// The advices.
const (
	Go   Advice = iota
	Slow        // rest for as long as the last batch took
	Stop
)

// ErrStrained reports a server that has to be spared.
var ErrStrained = errors.New("the server has to be spared")

// vitals are the signs of a server's health.
type vitals struct {
	lag     float64 // seconds
	wal     int64   // bytes that a slot holds back
	behind  int64   // bytes that a standby has not replayed
	waiting int
	tended  bool // the table is being vacuumed, analyzed, indexed or validated
}

// Health says whether the server can stand the next batch, and why not. The backfill is begun if it has not been yet.
func (b *Backfill) Health(ctx context.Context, h Health) (Advice, string, error) {
	if err := b.open(ctx); err != nil {
		_, err = b.failed(ctx, err)
		return Go, "", err // no error: Batch finds out that there is nothing to do
	}
	v, err := look(ctx, b.conn, b.table)
	if err != nil {
		return Go, "", fmt.Errorf("%s: look at the server's health: %w", b.migration.File, err)
	}
	advice, why := h.judge(v)
	return advice, why, nil
}

// look reads the signs. Those of others that a login may not see are null.
func look(ctx context.Context, conn *pgx.Conn, table uint32) (v vitals, err error) {
	const query = `
select coalesce((select max(extract(epoch from replay_lag)) from pg_stat_replication), 0)::float8,
       coalesce((select max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)) from pg_replication_slots), 0)::int8,
       coalesce((select max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)) from pg_stat_replication), 0)::int8,
       (select count(distinct l.pid) from pg_locks l join pg_stat_activity a on a.pid = l.pid
         where not l.granted and l.locktype <> 'advisory' and a.datname = current_database()),
       exists (select from pg_locks l where l.granted and l.locktype = 'relation' and l.mode = 'ShareUpdateExclusiveLock'
                  and l.database = (select d.oid from pg_database d where d.datname = current_database())
                  and (l.relation = $1 or l.relation in (select t.relid from pg_partition_tree($1) t)))`
	err = conn.QueryRow(ctx, query, table).Scan(&v.lag, &v.wal, &v.behind, &v.waiting, &v.tended)
	return v, err
}

// judge compares the signs with the limits.
func (h Health) judge(v vitals) (Advice, string) {
	lag := time.Duration(v.lag * float64(time.Second))
	for _, advice := range []Advice{Stop, Slow} {
		maxLag, maxWAL, maxWaiting := cmp.Or(h.LagSlow, 5*time.Second), cmp.Or(h.WALSlow, 1<<30), cmp.Or(h.WaitingSlow, 3)
		if advice == Stop {
			maxLag, maxWAL, maxWaiting = cmp.Or(h.LagStop, 30*time.Second), cmp.Or(h.WALStop, 8<<30), cmp.Or(h.WaitingStop, 20)
		}
		switch {
		case maxLag >= 0 && lag >= maxLag:
			return advice, fmt.Sprintf("a standby lags behind by %s", lag.Round(time.Millisecond))
		case maxWAL >= 0 && v.wal >= maxWAL:
			return advice, fmt.Sprintf("a replication slot holds back %d MB of WAL", v.wal>>20)
		case maxWAL >= 0 && v.behind >= maxWAL:
			return advice, fmt.Sprintf("a standby has %d MB of WAL to replay", v.behind>>20)
		case maxWaiting >= 0 && v.waiting >= maxWaiting:
			return advice, fmt.Sprintf("%d sessions wait for locks", v.waiting)
		}
	}
	if v.tended {
		return Slow, "the table is being vacuumed or the like"
	}
	return Go, ""
}
