package main

import (
	"context"

	"github.com/landlord-go/landlord/migrate/fleet"
	"github.com/landlord-go/landlord/placement"
)

// statusView is a run together with each of its targets, for --json: a fleet has too many for a screen.
type statusView struct {
	runView
	Targets []targetView `json:"targets"`
}

type targetView struct {
	Home    string `json:"home"`
	Tenant  string `json:"tenant"` // slug; empty: it is nobody's alone
	Scope   string `json:"scope"`
	Wave    int    `json:"wave"`
	State   string `json:"state"`
	Version *int64 `json:"version"` // of the migrations; null: it could not be asked
	Error   string `json:"error"`   // the last, also of one that is tried again
	Reason  string `json:"reason,omitempty"`
}

// viewStatus lists the targets of a run beside it. Homes that are not verified are asked what they have.
func viewStatus(ctx context.Context, f *fleet.Fleet, catalog *placement.Catalog, s fleet.Status) (statusView, error) {
	v := statusView{runView: viewRun(s), Targets: []targetView{}}
	targets, err := catalog.RunTargets(ctx, s.Run.ID)
	if err != nil {
		return v, err
	}
	versions, err := f.Versions(ctx, s.Run, targets)
	if err != nil {
		return v, err
	}
	for _, t := range targets {
		view := targetView{
			Home: t.Home.String(), Tenant: t.Slug, Scope: t.Scope, Wave: t.Wave, State: string(t.State),
			Error: oneLine(t.Error), Reason: t.Reason,
		}
		if version, known := versions[t.Home]; known {
			view.Version = &version
		}
		v.Targets = append(v.Targets, view)
	}
	return v, nil
}
