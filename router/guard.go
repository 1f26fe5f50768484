package router

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// allowed lists how a statement may begin. Everything else is refused before it is sent: transaction control would end the
// tenant's transaction under the router, PREPARE, DEALLOCATE and DISCARD change the statements that the next tenant on the
// connection runs, DO can do either, LISTEN and plain SET outlive the transaction, and schema changes belong to migrations.
var allowed = map[string]bool{
	"select": true, "insert": true, "update": true, "delete": true, "merge": true, "with": true, "values": true,
	"table": true, "explain": true, "show": true, "call": true, "declare": true, "fetch": true, "move": true,
	"close": true, "notify": true, "set": true,
}

// ownTransaction lists the statements that must not run as an implicit transaction: a procedure could commit in it.
var ownTransaction = map[string]bool{"call": true, "declare": true, "set": true}

// check refuses SQL that may not run under a tenant, and returns the statement's first word, in lower case.
func check(sql string) (verb string, err error) {
	verb, rest := firstWord(sql)
	if !allowed[verb] {
		return "", fmt.Errorf("%w: a statement that begins with %q: %s", ErrRefused, verb, advice(verb))
	}
	if verb == "set" {
		scope, rest := firstWord(rest)
		if scope != "local" && scope != "constraints" {
			return "", fmt.Errorf("%w: SET without LOCAL outlives the transaction: write SET LOCAL", ErrRefused)
		}
		// landlord's own settings hold the tenant, in some modes. A name in quotes could be one of them.
		if name, rest := firstWord(rest); scope == "local" && (name == "" || name == "landlord" || strings.HasPrefix(rest, "&")) {
			return "", fmt.Errorf("%w: SET LOCAL of a setting of landlord's, or of one in quotes", ErrRefused)
		}
	}
	return verb, nil
}

func advice(verb string) string {
	switch verb {
	case "begin", "start", "commit", "end", "rollback", "abort", "prepare":
		return "use DB.Tx; it begins, commits and rolls back"
	case "savepoint", "release":
		return "use Tx.Savepoint"
	case "copy":
		return "use CopyFrom"
	case "create", "alter", "drop", "grant", "revoke", "comment", "truncate", "reindex", "cluster", "vacuum", "analyze":
		return "schema changes and maintenance go through migrations"
	}
	return "only data statements run under a tenant"
}

// firstWord returns the first word of sql in lower case, past white space, comments and opening brackets, and what follows.
func firstWord(sql string) (word, rest string) {
	for {
		sql = strings.TrimLeft(sql, " \t\r\n\f\v(")
		switch {
		case strings.HasPrefix(sql, "--"):
			sql = sql[endOfLine(sql):]
		case strings.HasPrefix(sql, "/*"):
			sql = skipComment(sql)
		default:
			end := 0
			for end < len(sql) && (sql[end]|0x20 >= 'a' && sql[end]|0x20 <= 'z' || sql[end] == '_') {
				end++
			}
			return strings.ToLower(sql[:end]), sql[end:]
		}
	}
}

// endOfLine is where a comment of one line ends. PostgreSQL also ends it at a carriage return.
func endOfLine(sql string) int {
	if i := strings.IndexAny(sql, "\n\r"); i >= 0 {
		return i
	}
	return len(sql)
}

// skipComment returns what follows a block comment. PostgreSQL's nest.
func skipComment(sql string) string {
	depth := 0
	for i := 0; i+1 < len(sql); i++ {
		switch sql[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return sql[i+1:]
			}
		}
	}
	return ""
}

// plainArgs applies named arguments and refuses every other argument that would act on the connection.
func plainArgs(ctx context.Context, sql string, args []any) (string, []any, error) {
	if len(args) == 0 {
		return sql, args, nil
	}
	switch a := args[0].(type) {
	case pgx.NamedArgs:
		return rewrite(ctx, a, sql, args[1:])
	case pgx.StrictNamedArgs:
		return rewrite(ctx, a, sql, args[1:])
	case pgx.QueryRewriter, pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
		return "", nil, fmt.Errorf("%w: an argument of type %T, which acts on the connection: only pgx.NamedArgs may lead the "+
			"arguments", ErrRefused, a)
	}
	return sql, args, nil
}

func rewrite(ctx context.Context, r pgx.QueryRewriter, sql string, args []any) (string, []any, error) {
	sql, args, err := r.RewriteQuery(ctx, nil, sql, args)
	if err != nil {
		return "", nil, fmt.Errorf("apply named arguments: %w", err)
	}
	return sql, args, nil
}
