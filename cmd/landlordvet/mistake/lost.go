package mistake

import (
	"go/ast"
	"go/types"
	"slices"
)

// lost finds, where a function has a context, a new one that knows no tenant; where the router is called, a context that comes from
// somewhere else; and the handle of one tenant in a function that is called for another, or in a loop over several.
func lost(c *check) {
	c.calls(func(call *ast.CallExpr, fn *types.Func, stack []ast.Node) {
		if fn.Pkg().Path() == "context" && (fn.Name() == "Background" || fn.Name() == "TODO") {
			if c.hasContext(stack) {
				c.report(call, "context.%s loses the tenant of the context at hand: derive from that one, with context.WithoutCancel "+
					"where it must outlive it", fn.Name())
			}
			return
		}
		if fn.Pkg().Path() != routerPath || receiver(fn) == "" {
			return
		}
		c.strangeContext(call, fn, stack)
		c.outerHandle(call, fn, stack)
	})
}

// hasContext tells whether some function on the stack is given a context or a request.
func (c *check) hasContext(stack []ast.Node) bool {
	for _, n := range stack {
		for _, p := range c.parameters(n) {
			if isContext(p.Type()) || typeName(p.Type()) == "net/http.Request" {
				return true
			}
		}
	}
	return false
}

func (c *check) strangeContext(call *ast.CallExpr, fn *types.Func, stack []ast.Node) {
	params := fn.Signature().Params()
	if params.Len() == 0 || !isContext(params.At(0).Type()) || len(call.Args) == 0 || !c.hasContext(stack) {
		return
	}
	given := ast.Unparen(call.Args[0])
	if s, ok := given.(*ast.SelectorExpr); ok {
		if o, ok := c.TypesInfo.ObjectOf(s.Sel).(*types.Var); ok {
			c.report(given, "%s is another context than that of the call at hand: it may be of another tenant, or of none", o.Name())
		}
		return
	}
	o := c.object(given)
	if o == nil {
		return
	}
	if o.Parent() == c.Pkg.Scope() {
		c.report(given, "%s is the same context for all tenants", o.Name())
		return
	}
	callback, _ := c.transaction(stack)
	if lit, ok := callback.(*ast.FuncLit); ok && receiver(fn) == routerPath+".Tx" && !within(o, lit) {
		c.report(given, "%s is the context around the transaction: use the one that the callback is given", o.Name())
	}
}

// outerHandle finds a handle that a function literal has from outside while it is called with a tenant of its own, and one from outside
// of a loop over tenants.
func (c *check) outerHandle(call *ast.CallExpr, fn *types.Func, stack []ast.Node) {
	if receiver(fn) != routerPath+".DB" {
		return
	}
	s, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
	if !ok {
		return
	}
	handle := c.object(s.X)
	if handle == nil {
		return
	}
	for _, n := range slices.Backward(stack) {
		if loop, ok := n.(*ast.RangeStmt); ok && c.outerLoop(loop, call, handle) {
			c.report(s.X, "%s is the handle of the tenant outside, and this loop goes over tenants", handle.Name())
			return
		}
		lit, ok := n.(*ast.FuncLit)
		if !ok {
			continue
		}
		for _, p := range c.parameters(lit) {
			if name := typeName(p.Type()); (name == tenantPath+".ID" || name == routerPath+".DB") && !within(handle, lit) {
				c.report(s.X, "%s is the handle of the tenant outside, and this function is called for %s", handle.Name(), p.Name())
				return
			}
		}
	}
}

// outerLoop tells whether a call in a loop over tenants uses a handle that stays the same in every turn. Who hands the tenant's id on
// may be keeping account of tenants for another one.
func (c *check) outerLoop(loop *ast.RangeStmt, call *ast.CallExpr, handle types.Object) bool {
	if call.Pos() < loop.Body.Pos() || !c.overTenants(loop) || within(handle, loop) || c.replaced(handle, loop.Body) {
		return false
	}
	for _, arg := range call.Args {
		for _, e := range []ast.Expr{loop.Key, loop.Value} {
			if e == nil {
				continue
			}
			if o := c.object(e); o != nil && o == c.object(arg) && typeName(o.Type()) == tenantPath+".ID" {
				return false
			}
		}
	}
	return true
}

// overTenants tells whether each turn of a loop is another tenant's.
func (c *check) overTenants(loop *ast.RangeStmt) bool {
	var turns []types.Type
	for _, e := range []ast.Expr{loop.Key, loop.Value} {
		if e != nil {
			turns = append(turns, c.TypesInfo.TypeOf(e))
		}
	}
	switch over := c.TypesInfo.TypeOf(loop.X).Underlying().(type) { // the turn may be by number
	case *types.Slice:
		turns = append(turns, over.Elem())
	case *types.Array:
		turns = append(turns, over.Elem())
	case *types.Map:
		turns = append(turns, over.Key(), over.Elem())
	}
	return slices.ContainsFunc(turns, func(t types.Type) bool {
		return t != nil && (typeName(t) == tenantPath+".ID" || typeName(t) == routerPath+".DB")
	})
}

// replaced tells whether a variable gets another value inside a node.
func (c *check) replaced(o types.Object, in ast.Node) (found bool) {
	ast.Inspect(in, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok {
			found = found || slices.ContainsFunc(a.Lhs, func(e ast.Expr) bool { return c.object(e) == o })
		}
		return !found
	})
	return found
}
