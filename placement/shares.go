package placement

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// ShareTTL is how long a share lasts on the server's clock. Whoever renews his within a third of it survives two lost calls.
const ShareTTL = 15 * time.Second

// Demand is what one process has on a cluster, and how many connections it could use there.
type Demand struct {
	Cluster string
	// Limit is the share that the process keeps to while it asks: the last one it heard of, zero before the first. It may
	// open as many until it has the answer, so as many are not given to others.
	Limit int
	Open  int // connections it has now; above Limit while it shrinks
	Want  int // connections it could use; the fair part of who wants nothing is nothing
}

// Shares tells the catalog what a process has and wants, and returns how many connections it may have open on each cluster
// for the next [ShareTTL]: its part of the cluster's budget, divided among all processes so that nobody who wants more gets
// less than another does. A cluster that the catalog does not know is not in the answer.
//
// What all processes hold together never exceeds a budget: what one has or may open until it reports again is not given to
// another. So a late-comer gets his part as the others report that they have shrunk, which takes each of them two calls; one
// that stopped without [Catalog.ReleaseShares] holds its part until that expires. A lowered budget reaches everyone with his
// next call.
//
// Like Route it is one round trip, bounded by ctx and Config.Timeout, and does not retry. After an error, such as
// [ErrUnavailable], the process keeps to the last share it heard of. Its part is not safe from others then: when it could
// not renew for longer than ShareTTL and others could, they may have been given the same connections.
func (c *Catalog) Shares(ctx context.Context, process string, demands []Demand) (map[string]int, error) {
	const share = `select of_cluster, share from landlord.share_connections($1, $2, $3, $4, $5, $6)`
	n := len(demands)
	clusters, limits, opens, wants := make([]string, n), make([]int, n), make([]int, n), make([]int, n)
	for i, d := range demands {
		clusters[i], limits[i], opens[i], wants[i] = d.Cluster, d.Limit, d.Open, d.Want
	}
	shares := make(map[string]int, n)
	err := c.exchange(ctx, func(rows pgx.Rows) error {
		var cluster string
		var share int
		_, err := pgx.ForEachRow(rows, []any{&cluster, &share}, func() error { shares[cluster] = share; return nil })
		return err
	}, share, process, clusters, limits, opens, wants, ShareTTL)
	if err != nil {
		return nil, fmt.Errorf("share connections: %w", err)
	}
	return shares, nil
}

// ReleaseShares gives back all that a process holds, on every cluster; it must have closed its connections. Nothing happens
// when it holds nothing.
func (c *Catalog) ReleaseShares(ctx context.Context, process string) error {
	err := c.exchange(ctx, func(pgx.Rows) error { return nil }, `select landlord.release_connections($1)`, process)
	if err != nil {
		return fmt.Errorf("release connections: %w", err)
	}
	return nil
}

// exchange runs one query in a transaction of its own, in one round trip: others wait for the locks that it takes. READ
// COMMITTED is asked for by name, as in change. The server gives up waiting when the caller does: a report that is carried out
// after a later one would undo it.
func (c *Catalog) exchange(ctx context.Context, read func(pgx.Rows) error, query string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	batch := &pgx.Batch{}
	batch.Queue(`begin isolation level read committed`)
	batch.Queue(fmt.Sprintf(`set local lock_timeout = %d`, max(c.cfg.Timeout.Milliseconds(), 1)))
	batch.Queue(query, args...).Query(read)
	batch.Queue(`commit`)
	if err := c.pool.SendBatch(ctx, batch).Close(); err != nil {
		return judge(err)
	}
	return nil
}

// Granted returns how many connections of a cluster's budget are granted now, and to how many processes.
func (c *Catalog) Granted(ctx context.Context, cluster string) (connections, processes int, err error) {
	const query = `
select coalesce(sum(granted), 0), count(*) from landlord.connection_shares
where cluster = $1 and granted > 0 and expires_at > now()`
	err = c.read(ctx, fmt.Sprintf("read what is granted of cluster %.70q", cluster), func(ctx context.Context, q querier) error {
		rows, err := q.Query(ctx, query, cluster)
		if err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, []any{&connections, &processes}, func() error { return nil })
		return err
	})
	return connections, processes, err
}
