package placement

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/landlord-go/landlord/tenant"
)

// Watcher is told what changes. Its functions are called one at a time, from the goroutine of Watch. A route that was being
// read when one of them is called may be the old one: a cache must not keep what it asked for before the call.
type Watcher struct {
	// OnChange: what Route says of this tenant may have changed.
	OnChange func(tenant.ID)
	// OnReset: what Route says of any tenant may have changed. Also called at the first connection, and when the log is not
	// the one that was read before, because the catalog was restored from a backup.
	OnReset func()
	// Poll is how often the log is read although nothing was notified, because a pooler or a firewall may swallow
	// notifications. Default: 3 s.
	Poll time.Duration
}

const (
	channel   = "landlord_placement"
	watchPage = 1000 // rows of the log read at once
)

// Watch tells w of every change from now on until ctx ends, and then returns nil. It listens, and reads the log after its
// cursor whenever it is notified, has connected again, or Poll has passed: a notification only says "look", so none matters.
// While the catalog is down it goes on trying. It leaves nothing behind; in a network that swallows everything, closing the
// connection can take pgx 15 s.
func (c *Catalog) Watch(ctx context.Context, w Watcher) error {
	if w.OnChange == nil || w.OnReset == nil {
		return errors.New("watch placements: OnChange or OnReset is missing")
	}
	if w.Poll <= 0 {
		w.Poll = 3 * time.Second
	}
	const first, most = 20 * time.Millisecond, 2 * time.Second
	var closing sync.WaitGroup // lost connections, which a new one need not wait for
	defer closing.Wait()
	cur := cursor{seq: unset}
	pause, level := first, slog.LevelWarn
	for ctx.Err() == nil {
		connected, err := c.follow(ctx, w, &cur, &closing)
		if connected {
			pause, level = first, slog.LevelWarn
		}
		if ctx.Err() == nil {
			c.cfg.Logger.Log(ctx, level, "watch of the catalog was lost, connecting again", "error", err)
		}
		sleep(ctx, first/2+rand.N(pause))
		pause, level = min(2*pause, most), slog.LevelDebug // an outage is news once
	}
	return nil
}

// cursor is the last row of the log that was seen. Its time tells it from a row of the same number in another log.
type cursor struct {
	seq int64
	at  time.Time
}

const unset = -1

// follow watches over one connection until that breaks or ctx ends, and reports whether it ever had read the log.
func (c *Catalog) follow(ctx context.Context, w Watcher, cur *cursor, closing *sync.WaitGroup) (connected bool, err error) {
	conn, err := pgx.ConnectConfig(ctx, c.pool.Config().ConnConfig)
	if err != nil {
		return false, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.Timeout)
		defer cancel()
		_ = conn.Close(ctx) // the connection is given up either way
		closing.Go(func() { <-conn.PgConn().CleanupDone() })
	}()
	// Listening comes before the first look: what happens in between is notified, not missed.
	if _, err := conn.Exec(ctx, "listen "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return false, err
	}
	for {
		if err := c.catchUp(ctx, conn, w, cur); err != nil {
			return connected, err
		}
		connected = true
		if err := waitForNews(ctx, conn, w.Poll, cur.seq); err != nil {
			return connected, err
		}
	}
}

// waitForNews returns nil when the log is to be read: a notification of a later row has come, or poll has passed.
func waitForNews(ctx context.Context, conn *pgx.Conn, poll time.Duration, seen int64) error {
	polled, cancel := context.WithTimeout(ctx, poll)
	defer cancel()
	for {
		n, err := conn.WaitForNotification(polled)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && pgconn.Timeout(err) && !conn.IsClosed():
			return nil
		case err != nil:
			return err
		}
		// One transaction may have notified of several rows, which are read together.
		if seq, err := strconv.ParseInt(n.Payload, 10, 64); err != nil || seq > seen {
			return nil
		}
	}
}

// catchUp reads the log after the cursor and tells w.
func (c *Catalog) catchUp(ctx context.Context, conn *pgx.Conn, w Watcher, cur *cursor) error {
	for {
		page, err := c.logAfter(ctx, conn, *cur)
		switch {
		case errors.Is(err, errOtherLog):
			*cur = cursor{seq: unset}
			continue
		case err != nil:
			return fmt.Errorf("read placement log: %w", err)
		}
		if cur.seq == unset {
			w.OnReset()
		}
		for _, e := range page {
			switch {
			case cur.seq == unset: // what came before the reset is covered by it
			case !e.tenant.IsZero():
				w.OnChange(e.tenant)
			case e.kind == KindEndpoint, e.kind == KindDatabase:
				w.OnReset()
			}
		}
		if len(page) > 0 {
			*cur = page[len(page)-1].cursor
		}
		cur.seq = max(cur.seq, 0)
		if len(page) < watchPage {
			return nil
		}
	}
}

type news struct {
	cursor
	kind   Kind
	tenant tenant.ID
}

var errOtherLog = errors.New("the log is not the one read before")

// logAfter reads the next rows after cur; when cur is unset, only the last. The row of cur itself is read along: if it is
// gone, or has another time, then the catalog is not the one that it was.
func (c *Catalog) logAfter(ctx context.Context, conn *pgx.Conn, cur cursor) (page []news, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	if err := c.loadSettings(ctx, conn); err != nil {
		return nil, err
	}
	const last = `select seq, at, kind, coalesce(tenant, '') from landlord.placement_log where $1 < 0 order by seq desc limit $2`
	const next = `select seq, at, kind, coalesce(tenant, '') from landlord.placement_log where seq >= $1 order by seq limit $2`
	query, limit := next, watchPage
	if cur.seq == unset {
		query, limit = last, 1
	} else if cur.seq > 0 {
		limit++
	}
	rows, err := conn.Query(ctx, query, cur.seq, limit)
	if err != nil {
		return nil, err
	}
	page, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (n news, err error) {
		var id string
		if err := row.Scan(&n.seq, &n.at, &n.kind, &id); err != nil {
			return n, err
		}
		if id != "" {
			n.tenant, err = c.parseID(id)
		}
		return n, err
	})
	if err != nil || cur.seq <= 0 {
		return page, err
	}
	if len(page) == 0 || page[0].seq != cur.seq || !page[0].at.Equal(cur.at) {
		return nil, errOtherLog
	}
	return page[1:], nil
}
