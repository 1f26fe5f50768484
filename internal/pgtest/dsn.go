package pgtest

import (
	"net/url"
	"strings"
)

// WithDatabase names another database in a DSN of either form, URL or keywords.
func WithDatabase(dsn, name string) string {
	if u, err := url.Parse(dsn); err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") {
		u.Path = "/" + name
		return u.String()
	}
	return strings.TrimSpace(dsn) + " dbname=" + name // the last one counts
}
