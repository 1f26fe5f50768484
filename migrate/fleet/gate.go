package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/migrate/drift"
	"github.com/landlord-go/landlord/placement"
)

// Gate is what stands behind the files that may run: the next ones of the phase contract.
type Gate struct {
	Files []string // they run once the gate is open
	Waits []string // what keeps it closed, as far as it was looked at; none: landlord migrate up tries to open it
}

// allowed returns the fleet with the files that may run now, which is what all below works with.
func (f *Fleet) allowed(ctx context.Context) (*Fleet, error) {
	gate, err := f.cfg.Catalog.Gate(ctx)
	if err != nil {
		return nil, err
	}
	part := *f
	part.gate, part.cfg.Set = gate, f.whole.Allowed(gate.Contracted)
	part.files = digest(part.cfg.Set)
	return &part, nil
}

// next returns the gate behind the files that are allowed, and where it will stand once it is open. It is nil when there is none.
func (f *Fleet) next() (*Gate, placement.Gate) {
	files, needs := f.whole.NextContract(f.gate.Contracted)
	if len(files) == 0 {
		return nil, placement.Gate{}
	}
	return &Gate{Files: names(files)}, placement.Gate{Contracted: files[len(files)-1].Version, Needs: needs}
}

// OpenGate lets the next contract files run, if nothing keeps it from doing so, and runs none of them. It returns what they wait
// for, or nil when there are none.
//
// Every home must have all files in front of them and be as these make it, no run may be unfinished, and no instance of the
// application alive that is written for an older version.
func (f *Fleet) OpenGate(ctx context.Context) (*Gate, error) {
	part, err := f.allowed(ctx)
	if err != nil {
		return nil, err
	}
	return part.open(ctx)
}

func (f *Fleet) open(ctx context.Context) (*Gate, error) {
	gate, to := f.next()
	if gate == nil {
		return nil, nil
	}
	// Looking for drift takes its time, so what is quickly known comes first; and tenants come meanwhile, so it comes last again.
	look := func(int64) (placement.GateWaits, error) { return f.cfg.Catalog.GateWaits(ctx, to) }
	open := func(seen int64) (placement.GateWaits, error) {
		return f.cfg.Catalog.OpenGate(ctx, f.gate, to, seen, func(ctx context.Context) ([]string, error) {
			p, err := f.plan(ctx, aim{}, Options{})
			return behind(p), err
		})
	}
	err := f.ask(ctx, gate, to, look)
	if err == nil && len(gate.Waits) == 0 {
		gate.Waits, err = f.offFiles(ctx)
	}
	if err == nil && len(gate.Waits) == 0 {
		err = f.ask(ctx, gate, to, open)
	}
	if err == nil && len(gate.Waits) > 0 {
		err = f.overtaken(ctx, gate, to)
	}
	if err != nil {
		return gate, fmt.Errorf("open the gate for %s: %w", gate.Files[0], err)
	}
	if len(gate.Waits) == 0 {
		f.log.InfoContext(ctx, "contract files may run", "version", to.Contracted, "application_needs", to.Needs)
	}
	return gate, nil
}

// overtaken takes back what a gate waits for if another process has opened it meanwhile: it may be that one's run.
func (f *Fleet) overtaken(ctx context.Context, gate *Gate, to placement.Gate) error {
	now, err := f.cfg.Catalog.Gate(ctx)
	if err == nil && now.Contracted >= to.Contracted {
		gate.Waits = nil
	}
	return err
}

// ask looks at the homes, then asks the catalog, and notes what it waits for. Another process's run is given a while to end.
func (f *Fleet) ask(ctx context.Context, gate *Gate, to placement.Gate, ask func(seen int64) (placement.GateWaits, error)) error {
	for deadline := time.Now().Add(f.cfg.Retry); ; {
		seen, err := f.cfg.Catalog.LogEnd(ctx)
		if err != nil {
			return err
		}
		p, err := f.plan(ctx, aim{}, Options{})
		if err != nil {
			return err
		}
		if gate.Waits = behind(p); len(gate.Waits) > 0 {
			w, err := f.cfg.Catalog.GateWaits(ctx, to)
			gate.Waits = append(gate.Waits, w.For...)
			return err
		}
		w, err := ask(seen)
		gate.Waits = w.For
		if err != nil || !w.Soon || time.Now().After(deadline) {
			return err
		}
		if !pause(ctx, 100*time.Millisecond+rand.N(200*time.Millisecond)) {
			return ctx.Err()
		}
	}
}

// behind is which homes keep the gate closed.
func behind(p Plan) (waits []string) {
	for _, g := range p.Groups {
		what := fmt.Sprintf("%d of scope %s, such as %s", g.Count, g.Scope, g.Example)
		if g.Scope == migrate.ScopeTenant {
			what = fmt.Sprintf("%d homes, such as %s", g.Count, g.Example)
		}
		if g.Problem != "" {
			waits = append(waits, fmt.Sprintf("%s: %s", what, g.Problem))
		} else {
			waits = append(waits, fmt.Sprintf("%s, that lack %s: landlord migrate up", what, strings.Join(g.Files, ", ")))
		}
	}
	return waits
}

// offFiles is which homes are not as their files make them.
func (f *Fleet) offFiles(ctx context.Context) (waits []string, err error) {
	odd, err := f.odd(ctx, nil)
	if err == nil && len(odd) > 0 {
		odd, err = f.odd(ctx, odd) // one may have been busy, or gone
	}
	const most = 5 // homes that are named
	for i, r := range odd {
		switch {
		case i == most:
			return append(waits, fmt.Sprintf("%d more homes: landlord migrate drift names them", len(odd)-most)), err
		case r.State == drift.Drifted:
			waits = append(waits, fmt.Sprintf("home %s, which differs from its files in %d objects: landlord migrate drift shows them",
				r.Home, len(r.Differences)))
		default:
			waits = append(waits, fmt.Sprintf("home %s, which is %s: %s", r.Home, r.State, r.Reason))
		}
	}
	return waits, err
}

// odd looks for homes that are not in sync, among all or among those that were found so before and are still there.
func (f *Fleet) odd(ctx context.Context, before []drift.Result) ([]drift.Result, error) {
	var again map[placement.Home]bool
	if before != nil {
		again = make(map[placement.Home]bool)
		for _, r := range before {
			again[r.Home] = true
		}
	}
	results, err := f.compareFiles(ctx, f.cfg.Set, again)
	return slices.DeleteFunc(results, func(r drift.Result) bool { return r.State == drift.InSync }), err
}

// tell adds to a status which contract files come next, and what in the catalog they wait for. No home is looked at.
func (f *Fleet) tell(ctx context.Context, s Status, err error) (Status, error) {
	if err != nil {
		return s, err
	}
	part, err := f.allowed(ctx)
	if err != nil {
		return s, err
	}
	gate, to := part.next()
	if gate == nil {
		return s, nil
	}
	w, err := f.cfg.Catalog.GateWaits(ctx, to)
	gate.Waits, s.Gate = w.For, gate
	return s, err
}

// tellPlan is what the next contract files wait for, by a plan and the catalog.
func (f *Fleet) tellPlan(ctx context.Context, p Plan) (Plan, error) {
	gate, to := f.next()
	if gate == nil {
		return p, nil
	}
	w, err := f.cfg.Catalog.GateWaits(ctx, to)
	gate.Waits, p.Gate = append(behind(p), w.For...), gate
	return p, err
}

// errBeyond is the problem of a home that has contract files which the gate does not let run: the catalog is older than the home.
var errBeyond = errors.New("contract files have run here of which the catalog does not know, as after it was restored from a " +
	"backup: landlord migrate reconcile tells it")

// beyond explains why a home does not fit the files that are allowed: where it fits all files, the error is [errBeyond], and
// version that of its last contract file.
func (f *Fleet) beyond(have histories, t target, err error) (version int64, _ error) {
	has := have[t.Home.Schema]
	if has == nil || len(has.applied) == 0 { // goose's home, which landlord has not taken over
		return 0, err
	}
	if _, wholeErr := f.whole.Pending(migrate.Scope(t.Scope), has.applied); wholeErr != nil {
		return 0, wholeErr
	}
	for _, m := range f.whole.Until(has.applied[len(has.applied)-1].Version).Scoped(migrate.Scope(t.Scope)) {
		if m.Phase == migrate.PhaseContract {
			version = m.Version
		}
	}
	return version, errBeyond
}

// fits refuses to begin a run where homes are beyond the gate: there are no files to bring them to.
func (f *Fleet) fits(ctx context.Context, p Plan) error {
	if p.beyond == 0 {
		return nil
	}
	now, err := f.cfg.Catalog.Gate(ctx)
	switch {
	case err != nil:
		return err
	case now.Contracted >= p.beyond: // another process has opened it meanwhile
		return placement.ErrGate
	}
	return fmt.Errorf("plan a run: %w", errBeyond)
}

// raise brings the gate to where homes say that it stood, and returns the fleet with what is allowed then.
func (f *Fleet) raise(ctx context.Context) (part *Fleet, raised bool, err error) {
	if part, err = f.allowed(ctx); err != nil {
		return nil, false, err
	}
	p, err := part.plan(ctx, aim{}, Options{})
	if err != nil || p.beyond <= part.gate.Contracted {
		return part, false, err
	}
	if err := f.cfg.Catalog.RaiseGate(ctx, placement.Gate{Contracted: p.beyond, Needs: f.whole.Needs(p.beyond)}); err != nil {
		return nil, false, err
	}
	part, err = f.allowed(ctx)
	return part, true, err
}
