package migrate_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/landlord-go/landlord/migrate"
)

func TestBatchesComeToTakeAsLongAsTheyAreMeantTo(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := migrate.Batches{
			Target: time.Duration(rapid.IntRange(10, 1000).Draw(t, "target")) * time.Millisecond,
			First:  rapid.IntRange(1, 5000).Draw(t, "first"), Most: 1 << 30,
		}
		p := migrate.NewPace(b)
		require.Equal(t, b.First, p.Size())
		row := time.Duration(rapid.IntRange(1000, 5_000_000).Draw(t, "row")) // up to 5 ms
		for range 60 {
			p.Took(p.Size(), time.Duration(p.Size())*row)
		}
		want := max(1, int(b.Target/row))
		require.InDelta(t, want, p.Size(), 1+float64(want)/100)
	})
}

func TestBatchesStayWithinTheirBounds(t *testing.T) {
	t.Parallel()
	p := migrate.NewPace(migrate.Batches{})
	require.Equal(t, 1000, p.Size())
	p.Took(1000, 0)
	require.Equal(t, 2000, p.Size(), "at most twice as large")
	for range 20 {
		p.Took(p.Size(), 0)
	}
	require.Equal(t, 20_000, p.Size())
	p.Took(20_000, 5*time.Second)
	require.Less(t, p.Size(), 2000, "what is slow shows at once")
	for range 20 {
		p.Failed(p.Size())
	}
	require.Equal(t, 1, p.Size())
	p.Took(1, time.Hour)
	require.Equal(t, 1, p.Size())

	p = migrate.NewPace(migrate.Batches{Most: 300})
	require.Equal(t, 300, p.Size())
	p.Failed(100)
	require.Equal(t, 50, p.Size())
	p.Resume(200)
	require.Equal(t, 50, p.Size(), "batches are being given up")
	p = migrate.NewPace(migrate.Batches{Most: 300})
	p.Resume(200)
	require.Equal(t, 200, p.Size(), "what another worker has found")
}
