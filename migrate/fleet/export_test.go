package fleet

import (
	"context"
	"time"

	"github.com/landlord-go/landlord/migrate"
	"github.com/landlord-go/landlord/placement"
)

// AssignWaves is tested by itself: a fleet large enough for all waves takes minutes to build.
var AssignWaves = assignWaves

// NewPurse returns how rows of clusters are paid for.
func NewPurse(perSecond int) func(cluster string, rows int) time.Duration {
	var p purses
	return func(cluster string, rows int) time.Duration { return p.pay(cluster, perSecond, rows) }
}

// Sizes returns how large homes are, in a fleet that has so many that it matters.
func (f *Fleet) Sizes(ctx context.Context, homes ...placement.Home) ([]int64, error) {
	targets := make([]target, max(len(homes), fleetSize))
	for i, h := range homes {
		targets[i] = target{Home: h, Scope: string(migrate.ScopeTenant)}
	}
	sizes, err := f.sizes(ctx, targets)
	return sizes[:len(homes)], err
}
