package fleet

// AssignWaves is tested by itself: a fleet large enough for all waves takes minutes to build.
var AssignWaves = assignWaves
