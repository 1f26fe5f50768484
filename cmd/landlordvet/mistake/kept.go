package mistake

import (
	"go/ast"
	"go/types"
)

// kept finds a transaction that leaves the callback it was given to: it is over when the callback returns.
func kept(c *check) {
	nodes := []ast.Node{(*ast.AssignStmt)(nil), (*ast.SendStmt)(nil), (*ast.GoStmt)(nil)}
	c.files.WithStack(nodes, func(n ast.Node, push bool, stack []ast.Node) bool {
		fn, tx := c.transaction(stack)
		if !push || tx == nil {
			return true
		}
		switch n := n.(type) {
		case *ast.AssignStmt:
			for i, right := range n.Rhs {
				if i < len(n.Lhs) && c.holds(right, tx) && c.outside(n.Lhs[i], fn) {
					c.report(right, "%s is kept beyond its callback, and over when that returns", tx.Name())
				}
			}
		case *ast.SendStmt:
			if c.holds(n.Value, tx) {
				c.report(n.Value, "%s is sent out of its callback, and over when that returns", tx.Name())
			}
		case *ast.GoStmt:
			if c.mentions(n.Call, tx) {
				c.report(n, "the goroutine uses %s, which one goroutine may use at a time, and which is over when its callback returns", tx.Name())
			}
		}
		return true
	})
}

// holds tells whether the value of e is tx, or holds it: &tx, a composite literal, append.
func (c *check) holds(e ast.Expr, tx types.Object) bool {
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		return c.TypesInfo.ObjectOf(e) == tx
	case *ast.UnaryExpr:
		return c.holds(e.X, tx)
	case *ast.KeyValueExpr:
		return c.holds(e.Value, tx)
	case *ast.CompositeLit:
		for _, part := range e.Elts {
			if c.holds(part, tx) {
				return true
			}
		}
	case *ast.CallExpr:
		if id, ok := e.Fun.(*ast.Ident); ok && c.TypesInfo.ObjectOf(id) == types.Universe.Lookup("append") {
			for _, part := range e.Args[1:] {
				if c.holds(part, tx) {
					return true
				}
			}
		}
	}
	return false
}

// outside tells whether what is assigned to lives longer than fn.
func (c *check) outside(target ast.Expr, fn ast.Node) bool {
	for {
		switch e := ast.Unparen(target).(type) {
		case *ast.SelectorExpr:
			target = e.X
		case *ast.IndexExpr:
			target = e.X
		case *ast.StarExpr:
			target = e.X
		case *ast.Ident:
			o := c.TypesInfo.ObjectOf(e)
			return o != nil && e.Name != "_" && !within(o, fn)
		default:
			return true
		}
	}
}

func (c *check) mentions(n ast.Node, o types.Object) (found bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && c.TypesInfo.ObjectOf(id) == o {
			found = true
		}
		return !found
	})
	return found
}
