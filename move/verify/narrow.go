package verify

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/move/table"
)

// A table that differs is narrowed down to keys in two more reads: the rows are put into buckets by their keys' hashes, and then the
// rows of a few buckets that differ are told one by one. Ranges of keys would not do, because servers may order text differently.

const (
	rowsInBucket = 64
	maxBuckets   = 1 << 16
	maxDiffering = 32 // buckets that are looked into
)

// differences lists up to limit of the rows that differ, by key, of a table with about so many rows. more: there are others.
func (p pair) differences(ctx context.Context, rows int64, limit int) (found []Difference, more bool, err error) {
	buckets := int64(1)
	for buckets < maxBuckets && buckets*rowsInBucket < rows {
		buckets *= 2
	}
	var sums [2]map[int64]Sum
	err = p.both(func(conn *pgx.Conn, t table.Table, source bool) (err error) {
		sums[side(source)], err = p.bucketSums(ctx, conn, t, buckets)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	differ := make(map[int64]bool)
	for _, side := range sums {
		for b := range side {
			if sums[0][b] != sums[1][b] {
				differ[b] = true
			}
		}
	}
	look := slices.Sorted(maps.Keys(differ))
	if len(look) > maxDiffering {
		look, more = look[:maxDiffering], true
	}
	var rowsOf [2]map[string]keyed
	err = p.both(func(conn *pgx.Conn, t table.Table, source bool) (err error) {
		rowsOf[side(source)], err = p.bucketRows(ctx, conn, t, buckets, look)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	for id, s := range rowsOf[0] {
		if t, ok := rowsOf[1][id]; !ok {
			found = append(found, Difference{Key: s.key, Kind: Missing})
		} else if s.hash != t.hash {
			found = append(found, Difference{Key: s.key, Kind: Changed})
		}
	}
	for id, t := range rowsOf[1] {
		if _, ok := rowsOf[0][id]; !ok {
			found = append(found, Difference{Key: t.key, Kind: Extra})
		}
	}
	slices.SortFunc(found, func(a, b Difference) int { return cmp.Or(slices.Compare(a.Key, b.Key), cmp.Compare(a.Kind, b.Kind)) })
	if len(found) > limit {
		found, more = found[:limit], true
	}
	return found, more, nil
}

func side(source bool) int {
	if source {
		return 0
	}
	return 1
}

// bucket is the SQL of a row's bucket.
func (p pair) bucket(buckets int64) string {
	return fmt.Sprintf("(hashtextextended(row(%s)::text, 1) & %d)", table.Quoted(p.SourceKey, ""), buckets-1)
}

func (p pair) bucketSums(ctx context.Context, conn *pgx.Conn, t table.Table, buckets int64) (map[int64]Sum, error) {
	q := fmt.Sprintf("select %s as bucket, count(*), sum(%s::numeric)::text from %s where %s group by bucket",
		p.bucket(buckets), p.hashed(), t.From(), t.Whose(p.Tenant))
	rows, err := conn.Query(ctx, q)
	if err != nil {
		return nil, err
	}
	sums := make(map[int64]Sum)
	var b int64
	var s Sum
	_, err = pgx.ForEachRow(rows, []any{&b, &s.Rows, &s.Hash}, func() error {
		sums[b] = s
		return nil
	})
	return sums, err
}

// keyed is a row's key and hash. A table without a key, which has at most one row in theory, may have several in fact: their
// hashes are added up.
type keyed struct {
	key  []string
	hash int64
}

func (p pair) bucketRows(ctx context.Context, conn *pgx.Conn, t table.Table, buckets int64, look []int64) (map[string]keyed, error) {
	key := "'{}'::text[]"
	if len(p.SourceKey) > 0 {
		var columns []string
		for _, c := range p.SourceKey {
			columns = append(columns, "coalesce("+pgx.Identifier{c}.Sanitize()+"::text, 'null')")
		}
		key = "array[" + strings.Join(columns, ", ") + "]"
	}
	q := fmt.Sprintf("select %s, %s from %s where %s and %s = any($1)", key, p.hashed(), t.From(), t.Whose(p.Tenant), p.bucket(buckets))
	rows, err := conn.Query(ctx, q, look)
	if err != nil {
		return nil, err
	}
	found := make(map[string]keyed)
	var columns []string
	var hash int64
	_, err = pgx.ForEachRow(rows, []any{&columns, &hash}, func() error {
		id := strings.Join(columns, "\x00")
		found[id] = keyed{key: slices.Clone(columns), hash: found[id].hash + hash}
		return nil
	})
	return found, err
}
