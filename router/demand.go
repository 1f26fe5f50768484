package router

import (
	"strconv"
	"sync/atomic"

	"github.com/landlord-go/landlord/placement"
)

// demand is the version that a place of a target must have for the application. It goes in front of the caller's statements
// until the place was seen to have it, and then no more: the version of a place only grows.
type demand struct {
	place   string
	version int64
	met     atomic.Bool
}

// demandSQL fails with pgerr.Behind where the place $1 has not got version $2.
const demandSQL = `select landlord.demand($1, $2)`

func (d *demand) params() [][]byte {
	return [][]byte{[]byte(d.place), strconv.AppendInt(nil, d.version, 10)}
}

// demand returns what is demanded of a schema of t; nil: nothing. Tenants of one place share it.
func (c *cache) demand(t *target, schema string) *demand {
	switch {
	case c.version == 0:
		return nil
	case schema == placement.SharedSchema:
		return &t.demand
	}
	return &demand{place: schema, version: c.version}
}
