package placement

import (
	"errors"
	"fmt"
	"slices"
)

// ClusterState says whether a cluster takes new tenants. It does not touch those that live there.
type ClusterState string

// The states of a cluster.
const (
	ClusterActive   ClusterState = "active"
	ClusterFull     ClusterState = "full"     // takes no more tenants
	ClusterDraining ClusterState = "draining" // takes none, and those it has are to leave
)

// nextClusterState is the state machine of clusters: a state leads only to those listed.
var nextClusterState = map[ClusterState][]ClusterState{
	ClusterActive:   {ClusterFull, ClusterDraining},
	ClusterFull:     {ClusterActive, ClusterDraining},
	ClusterDraining: {ClusterActive},
}

// DefaultConnections is the budget of a cluster for which none was named. It leaves some of PostgreSQL's own default, 100, to operators, migrations and people.
const DefaultConnections = 80

// Cluster is one PostgreSQL server or HA endpoint.
type Cluster struct {
	Name           string       // 1 to 63 lower-case letters, digits and inner dashes
	Endpoint       string       // keyword or URL connection string, with a host, without user, password and database
	Region         string       // free text; "" is matched by no request that asks for a region
	Tier           string       // likewise for tiers
	State          ClusterState // "" means active
	Capacity       int          // greatest number of tenants that are placed here; 0: no limit
	Connections    int          // greatest number that routers have open, all processes together; AddCluster takes 0 for DefaultConnections
	SharedDatabase string       // where the tenants of the shared and schema models live
	Operator       Ref          // to a connection string of a login that may create roles and databases
	App            Ref          // to the secret from which the passwords of the application's logins are derived
	Admin          Ref          // to the secret behind the logins landlord_admin and landlord_migrator
}

// Validate reports everything that is wrong with c.
func (c Cluster) Validate() error {
	errs := []error{checkClusterName(c.Name), checkEndpoint(c.Endpoint), checkDatabaseName(c.SharedDatabase)}
	if _, ok := nextClusterState[c.State]; !ok && c.State != "" {
		errs = append(errs, fmt.Errorf("bad cluster state %.40q: use active, full or draining", string(c.State)))
	}
	if c.Capacity < 0 || c.Capacity > 1<<31-1 {
		errs = append(errs, errors.New("bad capacity: give a number of tenants, or 0 for no limit"))
	}
	if c.Connections < 1 || c.Connections > 1<<31-1 {
		errs = append(errs, errors.New("bad connections: give the greatest number that routers may have open together, at least 1"))
	}
	for _, r := range []struct {
		name string
		ref  Ref
	}{{"operator", c.Operator}, {"app", c.App}, {"admin", c.Admin}} {
		if err := r.ref.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.name, err))
		}
	}
	for _, label := range []string{c.Region, c.Tier} {
		if label != "" {
			errs = append(errs, checkIdentifier("region or tier", label))
		}
	}
	return errors.Join(errs...)
}

// checkChange refuses what must not change once a cluster has homes: their names are made of it.
func (c Cluster) checkChange(to Cluster) error {
	switch {
	case to.Name != c.Name:
		return errors.New("a cluster keeps its name")
	case to.SharedDatabase != c.SharedDatabase:
		return errors.New("a cluster keeps its shared database: add another cluster with the same endpoint instead")
	case to.State != c.State && !slices.Contains(nextClusterState[c.State], to.State):
		return fmt.Errorf("state %s does not lead to %s: set it active first", c.State, to.State)
	}
	return to.Validate()
}

// reaches tells whether connections are made the same way: what a router has in its cache stays good.
func (c Cluster) reaches(to Cluster) bool {
	return c.Endpoint == to.Endpoint && c.Operator == to.Operator && c.App == to.App && c.Admin == to.Admin
}

func (c Cluster) terms() string {
	return fmt.Sprintf("%s, capacity %d, connections %d, tier %q, region %q", c.State, c.Capacity, c.Connections, c.Tier, c.Region)
}
