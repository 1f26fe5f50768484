package fleet

import "time"

// AssignWaves is tested by itself: a fleet large enough for all waves takes minutes to build.
var AssignWaves = assignWaves

// NewPurse returns how rows of clusters are paid for.
func NewPurse(perSecond int) func(cluster string, rows int) time.Duration {
	var p purses
	return func(cluster string, rows int) time.Duration { return p.pay(cluster, perSecond, rows) }
}
