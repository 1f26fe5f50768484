package placement

import (
	"fmt"
	"slices"

	"github.com/landlord-go/landlord/tenant"
)

// State is a tenant's state in the catalog. That a tenant is suspended or being moved is enforced by the fence beside the
// data; the catalog says what is intended.
type State string

// The states of a tenant.
const (
	StateProvisioning State = "provisioning" // its home is being made
	StateActive       State = "active"
	StateSuspended    State = "suspended"
	StateMoving       State = "moving"
	StateRemoving     State = "removing" // closed; its home goes when the grace period is over
)

// nextState is the state machine of tenants: a state leads only to those listed. One that is removing comes back only within
// its grace period; from provisioning there is none, so that an undone onboarding cannot be finished by somebody else.
var nextState = map[State][]State{
	StateProvisioning: {StateActive, StateRemoving},
	StateActive:       {StateSuspended, StateMoving, StateRemoving},
	StateSuspended:    {StateActive, StateRemoving},
	StateMoving:       {StateActive},
	StateRemoving:     {StateActive},
}

// ParseState reads a state's name.
func ParseState(s string) (State, error) {
	if _, ok := nextState[State(s)]; !ok {
		return "", fmt.Errorf("read tenant state %.40q: use provisioning, active, suspended, moving or removing", s)
	}
	return State(s), nil
}

func (s State) leadsTo(to State) bool { return slices.Contains(nextState[s], to) }

// StateError says in which state a tenant is instead.
type StateError struct {
	Tenant tenant.ID
	Slug   tenant.Slug
	Have   State
	// Why the state does not allow it.
	Why string
}

func (e *StateError) Error() string {
	return fmt.Sprintf("tenant %s is %s: %s", e.Slug, e.Have, e.Why)
}

// Unwrap makes errors.Is(err, ErrState) true.
func (e *StateError) Unwrap() error { return ErrState }
