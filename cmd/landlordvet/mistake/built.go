package mistake

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
)

// built finds SQL that is put together from values which are neither constants, numbers nor quoted identifiers. It follows a
// variable to the assignments of its function, and no further.
func built(c *check) {
	c.calls(func(call *ast.CallExpr, fn *types.Func, stack []ast.Node) {
		arg := sqlArgument(call, fn)
		if arg == nil {
			return
		}
		if c.sql(arg, stack, map[types.Object]bool{}) == unsafe {
			c.report(arg, "this SQL is put together from values: give them as arguments ($1), and identifiers through pgx.Identifier.Sanitize")
		}
	})
}

// origin is what is known of a text.
type origin int

const (
	safe    origin = iota // constants, numbers, quoted identifiers
	unknown               // comes from elsewhere
	unsafe                // put together here from what is not safe
)

// sql tells what is known of SQL: what was put together from something unknown is unsafe.
func (c *check) sql(e ast.Expr, stack []ast.Node, seen map[types.Object]bool) origin {
	e = ast.Unparen(e)
	if tv := c.TypesInfo.Types[e]; tv.Value != nil || isNumber(tv.Type) {
		return safe
	}
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return c.joined(stack, seen, e.X, e.Y)
	case *ast.CallExpr:
		return c.called(e, stack, seen)
	case *ast.Ident:
		return c.assigned(e, stack, seen)
	}
	return unknown
}

func (c *check) joined(stack []ast.Node, seen map[types.Object]bool, parts ...ast.Expr) origin {
	for _, part := range parts {
		if c.sql(part, stack, seen) != safe {
			return unsafe
		}
	}
	return safe
}

func (c *check) called(call *ast.CallExpr, stack []ast.Node, seen map[types.Object]bool) origin {
	fn := c.callee(call)
	if fn == nil || fn.Pkg() == nil {
		if tv := c.TypesInfo.Types[call.Fun]; tv.IsType() && len(call.Args) == 1 { // string(x)
			return c.sql(call.Args[0], stack, seen)
		}
		return unknown
	}
	switch fn.FullName() {
	case "(" + pgxPath + ".Identifier).Sanitize", "strconv.Itoa", "strconv.FormatInt", "strconv.FormatUint":
		return safe
	case "fmt.Sprintf", "fmt.Sprint", "fmt.Sprintln", "strings.ReplaceAll", "strings.Replace":
		return c.joined(stack, seen, call.Args...)
	}
	return unknown
}

// assigned looks at all that a local variable is given in the function around it.
func (c *check) assigned(id *ast.Ident, stack []ast.Node, seen map[types.Object]bool) origin {
	o := c.TypesInfo.ObjectOf(id)
	if o == nil || seen[o] {
		return safe // what it is given elsewhere counts
	}
	seen[o] = true
	body := declaring(o, stack)
	if body == nil || o.Parent() == c.Pkg.Scope() {
		return unknown
	}
	worst, given := safe, false
	take := func(e ast.Expr) {
		given = true
		worst = max(worst, c.sql(e, stack, seen))
	}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				if c.object(left) != o {
					continue
				}
				switch {
				case n.Tok == token.ADD_ASSIGN:
					given = true
					worst = max(worst, c.joined(stack, seen, n.Rhs[0]))
				case len(n.Rhs) == len(n.Lhs):
					take(n.Rhs[i])
				default:
					given, worst = true, max(worst, unknown)
				}
			}
		case *ast.ValueSpec:
			for i, name := range n.Names {
				if c.TypesInfo.ObjectOf(name) == o && i < len(n.Values) {
					take(n.Values[i])
				}
			}
		}
		return true
	})
	if !given { // a parameter or a range variable
		return unknown
	}
	return worst
}

// declaring returns the innermost function on the stack that declares o, with its parameters.
func declaring(o types.Object, stack []ast.Node) ast.Node {
	for _, n := range slices.Backward(stack) {
		switch fn := n.(type) {
		case *ast.FuncDecl, *ast.FuncLit:
			if within(o, fn) {
				return fn
			}
		}
	}
	return nil
}

func isNumber(t types.Type) bool {
	if t == nil {
		return false
	}
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&(types.IsNumeric|types.IsBoolean) != 0
}
