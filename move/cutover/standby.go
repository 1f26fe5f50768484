package cutover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// A standby that is promoted without knowing that the tenant was passed on would open the old home again; one that does not know
// what was brought to the new home would lose it. So what the one side has committed must have reached every standby that could be
// promoted before the other side relies on it. A synchronous standby has it by the time the commit is answered.

const (
	standbyPoll = 2 * time.Millisecond
	// standbyGone is how long a standby may be disconnected before it counts as gone: it will have to catch up before anybody can
	// promote it in good faith.
	standbyGone = 10 * time.Second
)

// ErrStandbysHidden reports a login that is not told of a server's standbys.
var ErrStandbysHidden = errors.New("the operator cannot see the server's standbys: grant pg_monitor to its login")

// StandbyError reports standbys that have not confirmed in time what was committed.
type StandbyError struct{ Names []string }

func (e *StandbyError) Error() string {
	return fmt.Sprintf("standbys that may be promoted have not confirmed what was committed: %s", strings.Join(e.Names, ", "))
}

// standby is one that could be promoted.
type standby struct {
	Name               string
	Sync, Has, Visible bool
}

// standbysSQL leaves out backups, whoever only receives the log and replays nothing, and readers of logical slots, which alone are
// connected to a database. One that has not been heard of yet may be a standby.
const standbysSQL = `
select format('%s (%s)', r.application_name, coalesce(host(r.client_addr), 'local')), coalesce(r.sync_state in ('sync', 'quorum'), false),
       coalesce(r.flush_lsn >= $1::text::pg_lsn, false), r.state is not null
  from pg_stat_replication r join pg_stat_activity a on a.pid = r.pid
 where a.datid is null and (r.state is null or r.state <> 'backup' and (r.replay_lsn is not null or r.write_lsn is null))`

// awaitStandbys waits until every standby of conn's server that could be promoted has on disk what is committed by now, unless one
// of them is synchronous. When ctx ends before, it is a *StandbyError.
func awaitStandbys(ctx context.Context, conn *pgx.Conn) error {
	var upTo string
	if err := conn.QueryRow(ctx, `select pg_current_wal_flush_lsn()::text`).Scan(&upTo); err != nil {
		return fmt.Errorf("look for standbys: %w", err)
	}
	seen := make(map[string]time.Time) // those that lag, and when they were connected last
	var lagging []string
	for {
		rows, err := conn.Query(ctx, standbysSQL, upTo)
		var standbys []standby
		if err == nil {
			standbys, err = pgx.CollectRows(rows, pgx.RowToStructByPos[standby])
		}
		switch {
		case err != nil && ctx.Err() != nil && len(lagging) > 0: // the time was up during the query
			return &StandbyError{Names: lagging}
		case err != nil:
			return fmt.Errorf("look for standbys: %w", err)
		}
		now := time.Now()
		for _, s := range standbys {
			switch {
			case !s.Visible:
				return ErrStandbysHidden
			case s.Sync:
				return nil
			case s.Has:
				delete(seen, s.Name)
			default:
				seen[s.Name] = now
			}
		}
		lagging = lagging[:0]
		for name, last := range seen {
			if now.Sub(last) < standbyGone {
				lagging = append(lagging, name)
			}
		}
		if len(lagging) == 0 {
			return nil
		}
		slices.Sort(lagging)
		select {
		case <-time.After(standbyPoll):
		case <-ctx.Done():
			return &StandbyError{Names: lagging}
		}
	}
}
