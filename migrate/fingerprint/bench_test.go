package fingerprint_test

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/migrate/fingerprint"
)

// BenchmarkRead reads a thousand homes of the sample application at once, and one of them as often.
func BenchmarkRead(b *testing.B) {
	r := newRig(b, isolation.Sealed, testhouse.SampleDir())
	homes := make([]fingerprint.Home, 1000)
	for i := range homes {
		homes[i] = r.home(b, fmt.Sprintf("t_%020x", i), tenantID)
	}
	r.exec(b, "analyze")
	b.Run("1000 homes", func(b *testing.B) {
		for b.Loop() {
			require.Len(b, r.read(b, homes...), len(homes))
		}
		b.ReportMetric(float64(b.N*len(homes))/b.Elapsed().Seconds(), "homes/s")
	})
	b.Run("one home", func(b *testing.B) {
		for b.Loop() {
			require.Len(b, r.read(b, homes[500]), 1)
		}
	})
}

// BenchmarkReadMany reads all homes of a database in the way of package drift: by the thousand, four thousands at a time. There are
// 10,000 of them with LANDLORD_SCALE=full, which takes a minute or two to build, and else 200.
func BenchmarkReadMany(b *testing.B) {
	n, page := 200, 50
	if os.Getenv("LANDLORD_SCALE") == "full" {
		n, page = 10_000, 1000
	}
	const together = 4
	first := newRig(b, isolation.Sealed, testhouse.SampleDir())
	dsn := first.super.Config().ConnString()
	homes := make([]fingerprint.Home, n)
	var g errgroup.Group
	for from := range together {
		r := &rig{super: connect(b, dsn, ""), migrator: connect(b, dsn, isolation.MigratorRole), set: first.set}
		g.Go(func() error {
			for i := from; i < n; i += together {
				homes[i] = fingerprint.Home{Schema: fmt.Sprintf("t_%020x", i), Tenant: tenantID}
				if err := isolation.CreateSchema(b.Context(), r.super, homes[i].Schema, tenantID); err != nil {
					return err
				}
				if err := r.set.Build(b.Context(), r.migrator, homes[i].Schema, tenantID); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(b, g.Wait())
	first.exec(b, "analyze")
	for b.Loop() {
		sums := make(map[fingerprint.Fingerprint]bool)
		found := make(chan map[string]fingerprint.Fingerprint, n/page)
		g.SetLimit(together)
		for part := range slices.Chunk(homes, page) {
			conn := connect(b, dsn, "")
			g.Go(func() error {
				all, _, err := fingerprint.Read(b.Context(), conn, part)
				found <- all
				return err
			})
		}
		require.NoError(b, g.Wait())
		close(found)
		read := 0
		for all := range found {
			read += len(all)
			for _, sum := range all {
				sums[sum] = true
			}
		}
		require.Equal(b, n, read)
		require.Len(b, sums, 1)
	}
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "homes/s")
}
