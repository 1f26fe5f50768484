package tenant

import (
	"errors"
	"fmt"
	"regexp"
)

// ErrBadSlug reports text that is no slug.
var ErrBadSlug = errors.New("bad slug")

// Slug is the name by which people and the CLI call a tenant. It is a DNS label, so that it can be a subdomain.
type Slug string

var slugForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ParseSlug reads a slug: 1 to 63 lower-case letters, digits and inner dashes. Its errors wrap [ErrBadSlug].
func ParseSlug(s string) (Slug, error) {
	if !slugForm.MatchString(s) {
		return "", fmt.Errorf("parse slug %.70q: %w: give 1 to 63 lower-case letters, digits and inner dashes", s, ErrBadSlug)
	}
	return Slug(s), nil
}
