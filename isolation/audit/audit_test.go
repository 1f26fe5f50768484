package audit_test

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/isolation/audit"
)

func TestTry(t *testing.T) {
	dsn := os.Getenv("TRY")
	conn, err := pgx.Connect(context.Background(), dsn)
	require.NoError(t, err)
	for range 3 {
		start := time.Now()
		f, err := audit.Check(context.Background(), conn, audit.Database{Login: "landlord_app", Mode: isolation.Sealed, Homes: []audit.Home{{Schema: "public"}}})
		require.NoError(t, err)
		t.Log(time.Since(start), len(f))
		for _, f := range slices.Clip(f[:min(len(f), 8)]) {
			t.Logf("%+v", f)
		}
	}
}
