package move

import (
	"context"

	"github.com/landlord-go/landlord/move/preflight"
	"github.com/landlord-go/landlord/placement"
)

// Request is a wish to move a tenant.
type Request struct {
	Tenant  placement.Tenant
	Model   placement.Model
	Cluster string // "": the one where the tenant lives
	placement.MoveOptions
	// AllowAsync accepts standbys that may lose the last commits when they are promoted: a cutover then may be undone by a failover.
	AllowAsync bool
}

// Preflight looks for everything that stands in the way of a move, and estimates how much there is to copy. It changes nothing.
func (m *Mover) Preflight(ctx context.Context, r Request) (preflight.Report, error) {
	return preflight.Check(ctx, preflight.Config{
		Catalog: m.cfg.Catalog, Tenant: r.Tenant, Model: r.Model, Cluster: r.Cluster, Limit: m.cfg.Limit,
		Offline: r.Offline, MaxWAL: r.MaxWAL, MaxRate: r.MaxRate, AllowAsync: r.AllowAsync,
	})
}

// Start records a move, in phase planned, and makes nothing yet: [Mover.Drive] does. A preflight with problems starts nothing; the
// error is a [*ProblemsError].
func (m *Mover) Start(ctx context.Context, r Request) (placement.Move, error) {
	report, err := m.Preflight(ctx, r)
	if err != nil {
		return placement.Move{}, err
	}
	if !report.OK() {
		return placement.Move{}, &ProblemsError{Slug: r.Tenant.Slug, Problems: report.Problems}
	}
	return m.cfg.Catalog.BeginMove(ctx, placement.MoveRequest{
		Tenant: r.Tenant.ID, Model: r.Model, Cluster: r.Cluster, MoveOptions: r.MoveOptions, Limit: m.cfg.Limit,
		OfRows: report.Estimate.Rows, OfBytes: report.Estimate.Bytes,
	})
}
