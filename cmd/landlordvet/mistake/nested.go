package mistake

import (
	"go/ast"
	"go/types"
)

// nested finds a tenant's handle at work where a transaction is open: its statement would be a transaction of its own, on another
// connection, that does not see what the open one has written and can wait for it for ever.
func nested(c *check) {
	c.calls(func(call *ast.CallExpr, fn *types.Func, stack []ast.Node) {
		if receiver(fn) != routerPath+".DB" {
			return
		}
		switch fn.Name() {
		case "Exec", "Query", "QueryRow", "SendBatch", "CopyFrom", "Tx", "TxWith":
		default:
			return
		}
		if _, tx := c.transaction(stack); tx != nil {
			c.report(call, "%s on the tenant's handle is no part of the open transaction: use the Tx", fn.Name())
		}
	})
}
