package onboard_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
)

// points is at how many requests, spread over the whole, an operation is interrupted.
const points = 6

// each calls fn for requests of an operation that has total of them; after tells which side of the request the break is on.
func each(total int, fn func(n int, after bool)) {
	step := max(1, total/points)
	for n := 1; n <= total; n += step {
		fn(n, false)
		fn(min(n+step/2, total), true)
	}
}

// The process that brings a tenant in is stopped (a cancelled context undoes nothing) at any request, before or after the
// server has carried it out. The same call again finishes the work.
func TestAnInterruptedAddIsFinishedByTheSameCall(t *testing.T) {
	t.Parallel()
	for _, m := range models {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			e := newEstate(t, testhouse.Options{})
			w := newTripwire(t, e.Server.Addr())
			host, port := w.addr()
			service := e.service(t, e.through(t, host, port), sample(t))
			r, _ := e.request(t, "count", m)
			w.arm(0, false, nil)
			_, err := service.Add(t.Context(), r)
			require.NoError(t, err)
			total := w.count()
			e.destroy(t, r.ID)

			each(total, func(n int, after bool) {
				at := fmt.Sprintf("request %d of %d, after it: %v", n, total, after)
				r, home := e.request(t, "interrupted", m)
				ctx, cancel := context.WithCancel(t.Context())
				w.arm(n, after, cancel)
				_, _ = service.Add(ctx, r) // the last request may break without anybody noticing
				require.Equal(t, w.count() >= n, ctx.Err() != nil, at)
				cancel()
				w.arm(0, false, nil)
				p, err := service.Add(t.Context(), r)
				if err != nil {
					require.ErrorIs(t, err, placement.ErrExists, at)
					p = e.tenant(t, r.ID).Placement()
				}
				require.Equal(t, placement.Placement{Tenant: r.ID, Slug: r.Slug, State: placement.StateActive, Model: m, Home: home, Epoch: 1}, p, at)
				e.complete(t, r.ID)
				e.destroy(t, r.ID)
				require.Empty(t, e.traces(t, r, home), at)
			})
		})
	}
}

// A connection breaks at any request, and the network is well again at once: Add reports an error and leaves nothing, unless
// it cannot know that the catalog has recorded the tenant. The same call again succeeds in any case.
func TestAnAddWhoseConnectionBreaksIsUndone(t *testing.T) {
	t.Parallel()
	for _, m := range models {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			e := newEstate(t, testhouse.Options{})
			w := newTripwire(t, e.Server.Addr())
			host, port := w.addr()
			service := e.service(t, e.through(t, host, port), sample(t))
			r, _ := e.request(t, "count", m)
			w.arm(0, false, nil)
			_, err := service.Add(t.Context(), r)
			require.NoError(t, err)
			total := w.count()
			e.destroy(t, r.ID)

			each(total, func(n int, after bool) {
				at := fmt.Sprintf("request %d of %d, after it: %v", n, total, after)
				r, home := e.request(t, "broken", m)
				w.arm(n, after, func() {})
				_, err := service.Add(t.Context(), r)
				w.arm(0, false, nil)
				if err != nil {
					left := e.traces(t, r, home)
					if len(left) > 0 {
						require.Subset(t, []string{"tenant", "fence"}, left, at) // a home that is open already is not undone
						require.Equal(t, placement.StateProvisioning, e.tenant(t, r.ID).State, at)
					}
					_, err = service.Add(t.Context(), r)
					require.NoError(t, err, at)
				}
				e.complete(t, r.ID)
				e.destroy(t, r.ID)
				require.Empty(t, e.traces(t, r, home), at)
			})
		})
	}
}

// A tenant is destroyed step by step, and each step may be the last that is done: the next Purge goes on.
func TestAnInterruptedPurgeIsFinishedByTheNext(t *testing.T) {
	t.Parallel()
	for _, m := range models {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			e := newEstate(t, testhouse.Options{})
			w := newTripwire(t, e.Server.Addr())
			host, port := w.addr()
			service := e.service(t, e.through(t, host, port), sample(t))
			neighbour := e.Add(t, "neighbour", m, "a")
			e.works(t, neighbour.Tenant)
			due := func(slug string) (placement.Request, placement.Home) {
				r, home := e.request(t, slug, m)
				_, err := e.Service.Add(t.Context(), r)
				require.NoError(t, err)
				if m == placement.ModelShared {
					_, err := e.Router(t).Tenant(r.ID).Exec(t.Context(), "insert into customers (email, name) values ('a', 'b')")
					require.NoError(t, err)
				}
				require.NoError(t, e.Service.Remove(t.Context(), e.tenant(t, r.ID), 0))
				return r, home
			}
			r, home := due("count")
			w.arm(0, false, nil)
			require.NoError(t, service.Purge(t.Context(), e.tenant(t, r.ID)))
			total := w.count()
			require.Empty(t, e.traces(t, r, home))

			each(total, func(n int, after bool) {
				at := fmt.Sprintf("request %d of %d, after it: %v", n, total, after)
				r, home := due("purged")
				doomed := e.tenant(t, r.ID)
				ctx, cancel := context.WithCancel(t.Context())
				if n%2 == 0 {
					w.arm(n, after, cancel)
				} else {
					w.arm(n, after, func() {})
				}
				_ = service.Purge(ctx, doomed)
				cancel()
				w.arm(0, false, nil)
				require.NoError(t, service.Purge(t.Context(), doomed), at)
				require.Empty(t, e.traces(t, r, home), at)
				require.NoError(t, service.Purge(t.Context(), doomed), "%s, again", at)
			})
			e.works(t, neighbour.Tenant)
		})
	}
}
