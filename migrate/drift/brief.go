package drift

import (
	"fmt"
	"strings"

	"github.com/landlord-go/landlord/migrate/fingerprint"
)

// Brief names the first few of what differs, without definitions.
func Brief(differences []fingerprint.Difference) string {
	const most = 3
	var parts []string
	for i, d := range differences {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(differences)-most))
			break
		}
		parts = append(parts, strings.TrimSpace(fmt.Sprintf("%s %s %s", d.Change, d.Kind, d.Object)))
	}
	return strings.Join(parts, ", ")
}
