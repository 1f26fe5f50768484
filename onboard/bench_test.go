package onboard_test

import (
	"fmt"
	"testing"

	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/placement"
)

// BenchmarkAdd brings tenants in, from the catalog's row to the open fence, with the sample application's tables.
func BenchmarkAdd(b *testing.B) {
	h := testhouse.New(b, testhouse.Options{Clusters: []string{"a"}})
	for _, model := range []placement.Model{placement.ModelShared, placement.ModelSchema, placement.ModelDatabase} {
		n := 0
		h.Add(b, string(model)+"-first", model, "a")
		b.Run(string(model), func(b *testing.B) {
			for b.Loop() {
				n++
				h.Add(b, fmt.Sprintf("%s-%d", model, n), model, "a")
			}
		})
	}
}
