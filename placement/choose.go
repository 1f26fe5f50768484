package placement

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/landlord-go/landlord/tenant"
)

// Strategy is how a cluster is chosen for a tenant among those that may take it.
type Strategy string

// The strategies.
const (
	Explicit    Strategy = "explicit"     // the cluster that the request names
	LeastLoaded Strategy = "least-loaded" // fewest tenants relative to capacity; of equals the first by name
	Hash        Strategy = "hash"         // rendezvous hashing of the id: stable, and adding a cluster draws only its share
)

// ParseStrategy reads a strategy's name.
func ParseStrategy(s string) (Strategy, error) {
	switch st := Strategy(s); st {
	case Explicit, LeastLoaded, Hash:
		return st, nil
	}
	return "", fmt.Errorf("read placement strategy %.40q: use explicit, least-loaded or hash", s)
}

// Request is a wish to place a tenant.
type Request struct {
	ID           tenant.ID // zero: a new one, if the installation's ids are uuids
	Slug         tenant.Slug
	Model        Model
	Strategy     Strategy // "": explicit if a cluster is named, else least-loaded
	Cluster      string   // for explicit, and only there
	Tier, Region string   // "": any; else only clusters of that tier and region
	// Force lets the explicit strategy choose a cluster that is marked full or draining. Capacity holds all the same.
	Force bool
}

// Validate reports everything that is wrong with r.
func (r Request) Validate() error {
	_, slugErr := tenant.ParseSlug(string(r.Slug))
	_, modelErr := ParseModel(string(r.Model))
	_, strategyErr := ParseStrategy(string(r.strategy()))
	errs := []error{slugErr, modelErr, strategyErr}
	explicit := r.strategy() == Explicit
	if explicit != (r.Cluster != "") {
		errs = append(errs, errors.New("a cluster is named for strategy explicit, and only for it"))
	}
	if r.Force && !explicit {
		errs = append(errs, errors.New("force goes with strategy explicit"))
	}
	return errors.Join(errs...)
}

func (r Request) strategy() Strategy {
	if r.Strategy == "" && r.Cluster != "" {
		return Explicit
	}
	return cmp.Or(r.Strategy, LeastLoaded)
}

// NoCapacityError says of each cluster why it cannot take a tenant.
type NoCapacityError struct{ Reasons []string }

func (e *NoCapacityError) Error() string {
	if len(e.Reasons) == 0 {
		return "there is no cluster: add one (landlord cluster add)"
	}
	return fmt.Sprintf("%v: %s: raise a capacity or reopen one (landlord cluster set), or add one", ErrNoCapacity, strings.Join(e.Reasons, "; "))
}

// Unwrap makes errors.Is(err, ErrNoCapacity) true.
func (e *NoCapacityError) Unwrap() error { return ErrNoCapacity }

// Choose picks the cluster for r by the given counts: a pure function, so that a dry run can show what [Catalog.Place]
// would do. It returns [ErrUnknownCluster] or a [*NoCapacityError] when there is none.
func Choose(r Request, all []Usage) (Cluster, error) {
	if r.strategy() == Explicit {
		all = slices.DeleteFunc(slices.Clone(all), func(u Usage) bool { return u.Name != r.Cluster })
		if len(all) == 0 {
			return Cluster{}, ErrUnknownCluster
		}
	}
	var able []Usage
	var reasons []string
	for _, u := range all {
		if why := r.excludes(u); why != "" {
			reasons = append(reasons, u.Name+": "+why)
			continue
		}
		able = append(able, u)
	}
	if len(able) == 0 {
		return Cluster{}, &NoCapacityError{Reasons: reasons}
	}
	if r.strategy() == Hash {
		return slices.MaxFunc(able, byWeight(r.ID)).Cluster, nil
	}
	return slices.MinFunc(able, byLoad(able)).Cluster, nil
}

// excludes says why u cannot take the tenant, or "".
func (r Request) excludes(u Usage) string {
	switch {
	case r.Tier != "" && u.Tier != r.Tier:
		return fmt.Sprintf("tier %q, not %q", u.Tier, r.Tier)
	case r.Region != "" && u.Region != r.Region:
		return fmt.Sprintf("region %q, not %q", u.Region, r.Region)
	case u.State != ClusterActive && !r.Force:
		return string(u.State)
	case u.Capacity > 0 && u.Tenants >= u.Capacity:
		return fmt.Sprintf("%d of %d tenants", u.Tenants, u.Capacity)
	}
	return ""
}

// byLoad orders by tenants/capacity, then by name. A cluster without a limit counts as large as the largest that has one.
// The quotients are compared by cross-multiplication: no rounding, so no tie that is none.
func byLoad(able []Usage) func(a, b Usage) int {
	largest := 1
	for _, u := range able {
		largest = max(largest, u.Capacity)
	}
	size := func(u Usage) int64 { return int64(cmp.Or(u.Capacity, largest)) }
	return func(a, b Usage) int {
		return cmp.Or(cmp.Compare(int64(a.Tenants)*size(b), int64(b.Tenants)*size(a)), cmp.Compare(a.Name, b.Name))
	}
}

// byWeight orders by the highest random weight (rendezvous hashing, Thaler and Ravishankar 1998) of the tenant on the cluster.
func byWeight(id tenant.ID) func(a, b Usage) int {
	weight := func(u Usage) uint64 {
		sum := sha256.Sum256([]byte(u.Name + "\x00" + id.String()))
		return binary.BigEndian.Uint64(sum[:8])
	}
	return func(a, b Usage) int { return cmp.Or(cmp.Compare(weight(a), weight(b)), cmp.Compare(a.Name, b.Name)) }
}
