package fingerprint_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

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
