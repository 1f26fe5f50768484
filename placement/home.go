package placement

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/landlord-go/landlord/tenant"
)

// Model is how a tenant is kept apart from the others.
type Model string

// The models.
const (
	ModelShared   Model = "shared"   // shared tables and row-level security
	ModelSchema   Model = "schema"   // a schema of its own in the cluster's shared database
	ModelDatabase Model = "database" // a database of its own
)

// ParseModel reads a model's name.
func ParseModel(s string) (Model, error) {
	switch m := Model(s); m {
	case ModelShared, ModelSchema, ModelDatabase:
		return m, nil
	}
	return "", fmt.Errorf("read model %.40q: use shared, schema or database", s)
}

// Home is where a tenant's rows lie.
type Home struct{ Cluster, Database, Schema string }

// The names that landlord gives in homes.
const (
	SharedSchema = "public"       // where the tables lie in shared and database homes
	SharedLogin  = "landlord_app" // the application's login in shared databases
)

// HomeName is the name of a tenant's own schema or database: "t_" and 20 hexadecimal digits of SHA-256 over the
// installation, a zero byte and the id. So names on a server tell nothing about customers, always fit into PostgreSQL's 63
// bytes (a longer name would be truncated silently, and two could become one), and two installations on one server do not
// meet.
func HomeName(installation string, id tenant.ID) string {
	sum := sha256.Sum256([]byte(installation + "\x00" + id.String()))
	return "t_" + hex.EncodeToString(sum[:10])
}

// DedicatedLogin is the application's login in the dedicated database called name.
func DedicatedLogin(name string) string { return name + "_app" }

// NewHome is where a tenant placed on c in the model lives. name is its [HomeName], unused in the shared model.
func NewHome(m Model, c Cluster, name string) Home {
	switch m {
	case ModelSchema:
		return Home{Cluster: c.Name, Database: c.SharedDatabase, Schema: name}
	case ModelDatabase:
		return Home{Cluster: c.Name, Database: name, Schema: SharedSchema}
	}
	return Home{Cluster: c.Name, Database: c.SharedDatabase, Schema: SharedSchema}
}

// String writes a home as "cluster/database/schema".
func (h Home) String() string { return h.Cluster + "/" + h.Database + "/" + h.Schema }

// ParseHome reads what [Home.String] writes.
func ParseHome(s string) (Home, error) {
	parts := strings.Split(s, "/")
	if len(parts) != 3 {
		return Home{}, fmt.Errorf("read home %.200q: write it as cluster/database/schema", s)
	}
	h := Home{Cluster: parts[0], Database: parts[1], Schema: parts[2]}
	return h, h.Validate()
}

// Validate reports everything that is wrong with the three names.
func (h Home) Validate() error {
	return errors.Join(checkClusterName(h.Cluster), checkDatabaseName(h.Database), checkSchemaName(h.Schema))
}

var clusterName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func checkClusterName(s string) error {
	if !clusterName.MatchString(s) {
		return fmt.Errorf("bad cluster name %.70q: use 1 to 63 lower-case letters, digits and inner dashes", s)
	}
	return nil
}

func checkDatabaseName(s string) error {
	if s == "template0" || s == "template1" {
		return fmt.Errorf("bad database name %q: templates hold no tenants", s)
	}
	return checkIdentifier("database name", s)
}

func checkSchemaName(s string) error {
	if strings.HasPrefix(s, "pg_") || s == "information_schema" || s == "landlord" || s == "extensions" {
		return fmt.Errorf("bad schema name %.70q: it is reserved", s)
	}
	return checkIdentifier("schema name", s)
}

// checkIdentifier admits what PostgreSQL keeps unchanged (63 bytes) and what can be told apart in "a/b/c". Such a name is
// still quoted wherever it goes into SQL.
func checkIdentifier(what, s string) error {
	odd := func(r rune) bool { return r == '/' || !unicode.IsPrint(r) }
	if s == "" || len(s) > 63 || !utf8.ValidString(s) || strings.ContainsFunc(s, odd) {
		return fmt.Errorf("bad %s %.70q: use 1 to 63 bytes of printable characters without slashes", what, s)
	}
	return nil
}
