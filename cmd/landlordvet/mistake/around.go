package mistake

import (
	"go/ast"
	"go/types"
	"strings"
)

// around finds what opens a connection or a pool, or uses one, in a package that has a router. Handles of
// database/sql are found where they are opened, because those of Router.SQL have the same type.
func around(c *check) {
	c.calls(func(call *ast.CallExpr, fn *types.Func, _ []ast.Node) {
		path := fn.Pkg().Path()
		switch owner := receiver(fn); {
		case owner == "" && (path == "database/sql" && (fn.Name() == "Open" || fn.Name() == "OpenDB") ||
			path == pgxPath && strings.HasPrefix(fn.Name(), "Connect") ||
			path == pgxPath+"/pgconn" && strings.HasPrefix(fn.Name(), "Connect") ||
			path == pgxPath+"/pgxpool" && strings.HasPrefix(fn.Name(), "New")):
			c.report(call, "%s.%s opens a connection around the router: its SQL has no tenant", fn.Pkg().Name(), fn.Name())
		case owner == pgxPath+"/pgxpool.Pool", owner == pgxPath+"/pgxpool.Conn", owner == pgxPath+".Conn", owner == pgxPath+"/pgconn.PgConn":
			switch fn.Name() {
			case "Exec", "ExecParams", "Query", "QueryRow", "SendBatch", "CopyFrom", "Begin", "BeginTx", "BeginFunc", "Acquire", "AcquireFunc":
				c.report(call, "%s goes around the router: its SQL has no tenant", fn.Name())
			}
		}
	})
}
