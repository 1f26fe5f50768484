package migrate

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Target is where a migration is applied: a home, or what stands for a whole database or server.
type Target struct {
	Scope  Scope
	Schema string // of the home; empty in the other scopes
	Tenant string // owner of the home; empty in a shared one
}

// Place is the name under which landlord.schema_version tells what the target has.
func (t Target) Place() string {
	switch t.Scope {
	case ScopeServer:
		return ServerPlace
	case ScopeDatabase:
		return DatabasePlace
	case ScopeTenant:
	}
	return t.Schema
}

// errOlderHome reports a database in which landlord's own objects do not know what this program asks of them.
var errOlderHome = errors.New("landlord's objects in this database are older than this program: run landlord init")

// target is a Target in SQL.
type target struct {
	place   string // its name
	quoted  string // its name, as a string constant
	schema  string // where its indexes are
	path    string // value of search_path
	written string // the expression that is that value as PostgreSQL shows it
	secure  string // the statement that secures it; empty: there is nothing to secure
}

func (t Target) compile(conn *pgx.Conn) (target, error) {
	place := t.Place()
	quoted, err := quoteLiteral(conn, place)
	if err != nil {
		return target{}, err
	}
	if t.Scope != ScopeTenant {
		// What is made for all goes where all find it.
		const path = "extensions, pg_temp"
		return target{place: place, quoted: quoted, schema: "extensions", path: path, written: "'" + path + "'"}, nil
	}
	const longest = 63 // PostgreSQL cuts longer names, silently, into another home's
	if place == "" || len(place) > longest {
		return target{}, errBadSchema
	}
	owner := "null"
	if t.Tenant != "" {
		if owner, err = quoteLiteral(conn, t.Tenant); err != nil {
			return target{}, err
		}
	}
	return target{
		place: place, quoted: quoted, schema: place,
		path:    pgx.Identifier{place}.Sanitize() + ", extensions, pg_temp",
		written: "pg_catalog.quote_ident(" + quoted + ") || ', extensions, pg_temp'",
		secure:  fmt.Sprintf("call landlord.secure(%s, %s)", quoted, owner),
	}, nil
}

var errBadSchema = errors.New("the name of a schema has 1 to 63 bytes, none of them zero, and the id of a tenant no zero bytes")

// quoteLiteral quotes s as a string constant for the simple protocol, which has no parameters.
func quoteLiteral(conn *pgx.Conn, s string) (string, error) {
	if strings.ContainsRune(s, 0) {
		return "", errBadSchema
	}
	escaped, err := conn.PgConn().EscapeString(s)
	return "'" + escaped + "'", err
}
