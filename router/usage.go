package router

import (
	"time"

	"github.com/landlord-go/landlord/tenant"
)

// Use is what calls have taken. It only grows.
type Use struct {
	Calls, Errors int64         // Errors are the calls that failed
	Busy          time.Duration // sum of the calls' durations: waits, rows and callbacks included
}

func (u *Use) add(failed bool, took time.Duration) {
	u.Calls++
	if failed {
		u.Errors++
	}
	u.Busy += took
}

// TenantUse is what one tenant has taken since it was last taken into account.
type TenantUse struct {
	Tenant tenant.ID
	// Since tells one stay among the heaviest tenants from the next, which begins at zero again. It grows with each.
	Since int64
	Use
}

// halfLife is when a tenant's time counts half as much for its rank. Without it, who was busy last month hides who is today.
const halfLife = 10 * time.Minute

// heavy keeps the use of the tenants that take the most time, in memory that does not grow with the number of tenants. It is
// Space-Saving (Metwally, Agrawal and El Abbadi, "Efficient computation of frequent and top-k elements in data streams",
// 2005), with a call's duration as its weight: a tenant that is not kept takes the place of the lightest and inherits its
// weight, so whoever takes more than its share of the time is among those kept. The inherited weight decides ranks only: Use
// is a tenant's own.
type heavy struct {
	at      map[tenant.ID]int // a tenant's place in uses and weights
	uses    []TenantUse
	weights []time.Duration // apart, because the lightest is found by looking at all of them
	aged    time.Duration   // when, see stats.now
	stays   int64
}

func newHeavy(size int) heavy {
	return heavy{at: make(map[tenant.ID]int, size), uses: make([]TenantUse, 0, size), weights: make([]time.Duration, 0, size)}
}

func (h *heavy) add(id tenant.ID, failed bool, now, took time.Duration) {
	h.age(now)
	i, ok := h.at[id]
	if !ok {
		i = h.place()
		h.stays++
		h.uses[i] = TenantUse{Tenant: id, Since: h.stays}
		h.at[id] = i
	}
	h.uses[i].add(failed, took)
	h.weights[i] += took
}

// place returns a free place, or the lightest tenant's.
func (h *heavy) place() int {
	if n := len(h.uses); n < cap(h.uses) {
		h.uses, h.weights = h.uses[:n+1], h.weights[:n+1]
		return n
	}
	lightest := 0
	for i, w := range h.weights {
		if w < h.weights[lightest] {
			lightest = i
		}
	}
	delete(h.at, h.uses[lightest].Tenant)
	return lightest
}

// age halves the weights for each half-life that has passed, which leaves their order as it is.
func (h *heavy) age(now time.Duration) {
	lives := (now - h.aged) / halfLife
	if lives < 1 {
		return
	}
	h.aged = now - (now-h.aged)%halfLife
	for i := range h.weights {
		h.weights[i] >>= min(lives, 63)
	}
}
