package router_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
)

func TestEachTenantSeesItsOwnRowsInEveryModelAndMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []isolation.Mode{isolation.Plain, isolation.Locked, isolation.SealedMAC, isolation.Sealed} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			n := newNeighbours(t, testhouse.Options{Mode: mode})
			for _, m := range models {
				require.Equal(t, []string{email(n.here[m])}, emails(t, n.r.Tenant(n.here[m].Tenant)), "%s", m)
				require.Equal(t, []string{email(n.next(m))}, emails(t, n.r.Tenant(n.next(m).Tenant)), "%s", m)
			}
		})
	}
}
