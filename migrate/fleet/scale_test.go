package fleet_test

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/landlord-go/landlord/internal/testhouse"
)

// scale chooses between what a test does each time and what `make bench` asks for.
func scale(each, full int) int {
	if os.Getenv("LANDLORD_SCALE") == "full" {
		return full
	}
	return each
}

// The figures are printed, not judged: a test does not know what else its machine does.
func TestManySchemasBesideGoose(t *testing.T) { //nolint:paralleltest // it measures the whole server
	total, rounds := scale(24, 1000), scale(1, 3)
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	ways := []way{
		naiveGoose(t), rawString(t), bareStep(t),
		landlordWay(t, testhouse.New(t, testhouse.Options{Clusters: []string{"a"}}), "drift allowed", true),
		landlordWay(t, h, "landlord", false),
	}
	cpu := newClock(t, h.Server.DSN)
	var table table

	// Each round of the first race builds its share of the schemas, and all of them are there afterwards.
	var schemas []string
	crews := []int{1, 4}
	batches := scale(1, 3)
	share := total / len(crews) / batches
	for _, workers := range crews {
		add := func(int) {
			for range share {
				schemas = append(schemas, fmt.Sprintf("t_%05d", len(schemas)))
			}
			for _, w := range ways {
				w.add(t, schemas[len(schemas)-share:])
			}
		}
		took := race(cpu, ways, batches, add, func(w way, _ int) { w.up(t, schemas[len(schemas)-share:], 5, workers) })
		table.add(t, rows("5 files from nothing", workers, share, ways, took))
	}
	version := 5
	for _, workers := range crews {
		first := version + 1
		took := race(cpu, ways, rounds, nil, func(w way, round int) { w.up(t, schemas, first+round, workers) })
		version += rounds
		table.add(t, rows("1 new file", workers, len(schemas), ways, took))
	}
	for _, workers := range crews {
		all := slices.DeleteFunc(slices.Clone(ways), func(w way) bool { return w.name != "goose, naive" && w.name != "landlord" }) // they never look
		took := race(cpu, all, scale(1, 3), nil, func(w way, _ int) { w.up(t, schemas, version, workers) })
		table.add(t, rows("nothing to do", workers, len(schemas), all, took))
	}
	var server string
	require.NoError(t, h.Super(t, "postgres").QueryRow(t.Context(), "show server_version").Scan(&server))
	t.Logf("PostgreSQL %s, %d schemas\n| what | workers | way | schemas/s | CPU ms each | times landlord | of single rounds | by CPU |\n|---|--:|---|--:|--:|--:|---|--:|\n%s",
		server, len(schemas), table.String())
}
