package placement_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/placement"
)

func TestACatalogThatIsAwayIsToldOfOnceHoweverManyWaitForIt(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer // slog's handlers write one at a time
	c := open(t, placement.Config{
		DSN: "host=127.0.0.1 port=1 dbname=nowhere user=nobody sslmode=disable", Retry: 500 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			_, err := c.Clusters(t.Context())
			if err == nil {
				t.Error("there is none")
			}
		})
	}
	all.Wait()
	require.Equal(t, 1, strings.Count(log.String(), "catalog gives no connection"), log.String())
}
