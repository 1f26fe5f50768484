package placement_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/landlord-go/landlord/placement"
)

// process is a router as the catalog must imagine it: between two calls it opens and closes as it likes up to its limit, and
// above that it only closes.
type process struct{ limit, open, want int }

// routers are processes on one cluster.
type routers struct {
	b     *budget
	total int
	alive map[string]*process
	dead  []string // their rows have not expired
	born  int
}

func (r *routers) names() []string { return slices.Sorted(maps.Keys(r.alive)) }

func (r *routers) ask(t *rapid.T, name string, p *process) int {
	shares, err := r.b.c.Shares(r.b.t.Context(), name, []placement.Demand{{Cluster: "a", Limit: p.limit, Open: p.open, Want: p.want}})
	require.NoError(t, err)
	return shares["a"]
}

func (r *routers) join(t *rapid.T) {
	r.born++
	r.alive[fmt.Sprintf("p%03d", r.born)] = &process{want: rapid.IntRange(0, 80).Draw(t, "want")}
}

func (p *process) act(t *rapid.T) {
	p.want = rapid.IntRange(0, 80).Draw(t, "want")
	p.open = rapid.IntRange(0, max(p.limit, p.open)).Draw(t, "open")
}

func TestOpenConnectionsNeverExceedTheBudget(t *testing.T) {
	t.Parallel()
	b := newBudget(t, 1)
	rapid.Check(t, func(t *rapid.T) {
		_, err := b.direct.Exec(b.t.Context(), `delete from landlord.connection_shares`)
		require.NoError(t, err)
		r := &routers{b: b, total: rapid.IntRange(1, 60).Draw(t, "budget"), alive: map[string]*process{}}
		b.setBudget(r.total)
		one := func(t *rapid.T) (string, *process) {
			if len(r.alive) == 0 {
				t.Skip("nobody is there")
			}
			name := rapid.SampledFrom(r.names()).Draw(t, "process")
			return name, r.alive[name]
		}
		for range rapid.IntRange(0, 4).Draw(t, "processes") {
			r.join(t)
		}
		t.Repeat(map[string]func(*rapid.T){
			"join": r.join,
			"act": func(t *rapid.T) {
				_, p := one(t)
				p.act(t)
			},
			"renew": func(t *rapid.T) {
				name, p := one(t)
				share := r.ask(t, name, p)
				p.act(t) // until it has the answer it does not know
				p.limit = share
			},
			"renew, and the answer is lost": func(t *rapid.T) {
				name, p := one(t)
				r.ask(t, name, p)
			},
			"leave": func(t *rapid.T) {
				name, _ := one(t)
				delete(r.alive, name)
				require.NoError(t, b.c.ReleaseShares(b.t.Context(), name))
			},
			"die": func(t *rapid.T) {
				name, _ := one(t)
				delete(r.alive, name)
				r.dead = append(r.dead, name)
			},
			"expire": func(t *rapid.T) {
				if len(r.dead) == 0 {
					t.Skip("nobody has died")
				}
				b.expire(r.dead...)
				r.dead = nil
			},
			"": func(t *rapid.T) {
				sum := 0
				for _, p := range r.alive {
					sum += max(p.limit, p.open)
				}
				require.LessOrEqual(t, sum, r.total)
			},
		})
		r.requireFair(t)
	})
}

// requireFair lets everybody renew, and checks the end: all is given that is wanted and there is, and nobody who has less
// than he wants has less than another, but for one left-over connection.
func (r *routers) requireFair(t *rapid.T) {
	if len(r.dead) > 0 {
		r.b.expire(r.dead...)
	}
	for range 6 { // as settle, and two more in which left-over connections find their place
		for _, name := range r.names() {
			p := r.alive[name]
			p.open = min(p.open, p.limit)
			p.limit = r.ask(t, name, p)
		}
	}
	given, wanted, most := 0, 0, 0
	for _, p := range r.alive {
		given, wanted, most = given+p.limit, wanted+p.want, max(most, p.limit)
	}
	require.Equal(t, min(r.total, wanted), given)
	for name, p := range r.alive {
		require.LessOrEqual(t, p.limit, p.want, name)
		if p.limit < p.want {
			require.GreaterOrEqual(t, p.limit, most-1, name)
			if len(r.alive) <= r.total {
				require.Positive(t, p.limit, name)
			}
		}
	}
}
