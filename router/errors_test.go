package router_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/router"
)

func TestAServerThatIsGoneIsNamedAlsoToACallerWhoLeaves(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	reset := fmt.Errorf("acquire a connection: %w", syscall.ECONNRESET)
	require.Equal(t, "home_down", router.Outcome(router.Unreachable(ctx, reset)))
	cancel()
	require.Equal(t, "home_down", router.Outcome(router.Unreachable(ctx, reset)))
	require.Equal(t, "canceled", router.Outcome(router.Unreachable(ctx, fmt.Errorf("acquire a connection: %w", context.Canceled))))
}
