package promrouter

import "github.com/landlord-go/landlord/router"

// other is the label of the tenants that have no series of their own. A tenant with this id never has one.
const other = "other"

// election decides at each collection which tenants have series of their own, such that every series only grows while it is
// there, and that adding up what the series have grown by counts each call once: a tenant's series begins at zero when it is
// elected, what it took before being in other, and other never counts again what a tenant's series has shown.
type election struct {
	seats  int
	seated map[string]*seat // by tenant
	gone   router.Use       // what was shown of tenants that have no seat any more
}

// seat is an elected tenant.
type seat struct {
	since int64      // TenantUse.Since of the stay that is being counted
	base  router.Use // what it had taken in that stay and is not shown
	past  router.Use // what was shown of earlier stays
	shown router.Use
}

func newElection(seats int) election {
	return election{seats: seats, seated: make(map[string]*seat, seats)}
}

// hold elects the first tenants of heaviest and returns what to show of each, and of all others.
func (e *election) hold(heaviest []router.TenantUse, all router.Use) map[string]router.Use {
	elected := make(map[string]*seat, e.seats)
	show := make(map[string]router.Use, e.seats+1)
	for _, t := range heaviest {
		if len(elected) == e.seats {
			break
		}
		id := t.Tenant.String()
		if id == other {
			continue
		}
		s := e.seated[id]
		switch {
		case s == nil:
			s = &seat{since: t.Since, base: t.Use}
		case s.since != t.Since: // the router had lost sight of it in between
			s.since, s.past, s.base = t.Since, s.shown, router.Use{}
		}
		s.shown = plus(s.past, minus(t.Use, s.base))
		elected[id] = s
		show[id] = s.shown
		all = minus(all, s.shown)
	}
	for id, s := range e.seated {
		if elected[id] == nil {
			e.gone = plus(e.gone, s.shown)
		}
	}
	e.seated = elected
	show[other] = minus(all, e.gone)
	return show
}

func plus(a, b router.Use) router.Use {
	return router.Use{Calls: a.Calls + b.Calls, Errors: a.Errors + b.Errors, Busy: a.Busy + b.Busy}
}

func minus(a, b router.Use) router.Use {
	return router.Use{Calls: a.Calls - b.Calls, Errors: a.Errors - b.Errors, Busy: a.Busy - b.Busy}
}
