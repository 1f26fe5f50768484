package move

import (
	"fmt"
	"strings"

	"github.com/landlord-go/landlord/move/table"
	"github.com/landlord-go/landlord/tenant"
)

// ProblemsError reports everything that stands in the way of a move.
type ProblemsError struct {
	Slug     tenant.Slug
	Problems []table.Problem
}

func (e *ProblemsError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return fmt.Sprintf("tenant %s cannot be moved like that: %s", e.Slug, strings.Join(lines, "; "))
}
