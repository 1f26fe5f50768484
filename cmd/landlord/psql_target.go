package main

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/placement"
)

// psqlTarget is where psql goes: a connection string as its owner wrote it, so that psql does with several hosts,
// certificates and the like what the string says, and what pgx made of it together with login and database.
type psqlTarget struct {
	dsn      string
	cfg      *pgx.ConnConfig
	settings map[string]string // of the session
}

func operatorTarget(c placement.Cluster, database string) (t psqlTarget, err error) {
	if t.cfg, err = c.OperatorConfig(database); err != nil {
		return t, err
	}
	t.dsn, err = c.Operator.Resolve()
	return t, err
}

func loginTarget(c placement.Cluster, login, database string) (t psqlTarget, err error) {
	t.dsn = c.Endpoint
	t.cfg, err = c.LoginConfig(login, database)
	return t, err
}

// keyword finds the settings of a keyword connection string.
var keyword = regexp.MustCompile(`([A-Za-z_]\w*)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s\\]|\\.)*)`)

// conninfo is the connection string for psql's arguments, which every user of the machine can read: no password is in it.
func (t psqlTarget) conninfo() (string, error) {
	if !strings.HasPrefix(t.dsn, "postgres://") && !strings.HasPrefix(t.dsn, "postgresql://") {
		text := keyword.ReplaceAllStringFunc(t.dsn, func(s string) string {
			if t.drops(keyword.FindStringSubmatch(s)[1]) {
				return ""
			}
			return s
		})
		quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
		return fmt.Sprintf("%s user='%s' dbname='%s'", strings.TrimSpace(text), quote.Replace(t.cfg.User), quote.Replace(t.cfg.Database)), nil
	}
	u, err := url.Parse(t.dsn)
	if err != nil { // its text would quote the connection string
		return "", fmt.Errorf("open psql: the connection string for %s cannot be read", t.cfg.Host)
	}
	u.User, u.Path, u.RawPath = nil, "/", ""
	query := u.Query()
	for key := range query {
		if t.drops(key) {
			query.Del(key)
		}
	}
	query.Set("user", t.cfg.User)
	query.Set("dbname", t.cfg.Database)
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // libpq takes a plus for a plus
	return u.String(), nil
}

// drops tells which settings of the connection string psql gets in another way, or only pgx knows.
func (t psqlTarget) drops(key string) bool {
	switch key {
	case "user", "password", "dbname", "database", "passfile", "sslpassword", "krbspn",
		"default_query_exec_mode", "statement_cache_capacity", "description_cache_capacity":
		return true
	}
	_, ofServer := t.cfg.RuntimeParams[key]
	return ofServer
}

// psqlKeeps are the variables that pgx fills gaps of a connection string from as psql does.
var psqlKeeps = []string{
	"PGHOST", "PGPORT", "PGSSLMODE", "PGSSLKEY", "PGSSLCERT", "PGSSLCERTMODE", "PGSSLSNI", "PGSSLROOTCERT", "PGSSLNEGOTIATION",
	"PGTARGETSESSIONATTRS", "PGCONNECT_TIMEOUT", "PGCHANNELBINDING", "PGREQUIREAUTH", "PGSERVICE", "PGSERVICEFILE",
}

// env is psql's environment. The password is in it, and no other setting of the caller's that would lead elsewhere.
func (t psqlTarget) env() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return strings.HasPrefix(name, "PG") && !slices.Contains(psqlKeeps, name)
	})
	settings := maps.Clone(t.cfg.RuntimeParams)
	maps.Copy(settings, t.settings)
	options := []string{settings["options"]}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if name == "options" || name == "application_name" {
			continue
		}
		// The server splits options at spaces that have no backslash before them.
		escaped := strings.NewReplacer(`\`, `\\`, " ", `\ `).Replace(settings[name])
		options = append(options, "-c "+name+"="+escaped)
	}
	return append(env,
		"PGPASSWORD="+t.cfg.Password,
		"PGAPPNAME=landlord psql",
		"PGOPTIONS="+strings.TrimSpace(strings.Join(options, " ")),
	)
}
