// Package mistake holds an analyzer for each classic mistake that application code makes with tenants: SQL that goes around the
// router, a context or a handle that is not the tenant's, SQL that outlives or escapes its transaction.
//
// An analyzer looks only at packages that import the router, and says nothing where it cannot know. A finding that is as it should
// be is allowed by a comment on its line or the line before, or before the package clause for the whole package:
//
//	//landlordvet:allow around the reporting job reads a replica that has no tenants
//
// What the router and the database refuse at run time, they refuse without any of this.
package mistake

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"
	"golang.org/x/tools/go/types/typeutil"
)

const (
	routerPath = "github.com/landlord-go/landlord/router"
	tenantPath = "github.com/landlord-go/landlord/tenant"
	pgxPath    = "github.com/jackc/pgx/v5"
)

// Analyzers returns all analyzers.
func Analyzers() []*analysis.Analyzer {
	return []*analysis.Analyzer{
		analyzer("around", "find connections and pools that go around the router", around),
		analyzer("lost", "find contexts and handles that are not those of the tenant at work", lost),
		analyzer("session", "find SQL that changes the session, which the next tenant on the connection would inherit", session),
		analyzer("built", "find SQL that is put together from values", built),
		analyzer("nested", "find a tenant's handle used inside an open transaction", nested),
		analyzer("kept", "find transactions that are kept beyond their callback", kept),
	}
}

// check is one analyzer at work on one package.
type check struct {
	*analysis.Pass
	files *inspector.Inspector
	name  string
	allow allowed
}

func analyzer(name, doc string, find func(*check)) *analysis.Analyzer {
	return &analysis.Analyzer{
		Name: name, Doc: doc, Requires: []*analysis.Analyzer{inspect.Analyzer},
		Run: func(pass *analysis.Pass) (any, error) {
			if imports(pass.Pkg, routerPath) {
				find(&check{pass, pass.ResultOf[inspect.Analyzer].(*inspector.Inspector), name, allowances(pass)})
			}
			return nil, nil
		},
	}
}

func imports(pkg *types.Package, path string) bool {
	for _, p := range pkg.Imports() {
		if p.Path() == path {
			return true
		}
	}
	return false
}

// report says what is wrong at a node unless a comment allows it. Tests may do all of it: they look at what happens then.
func (c *check) report(n ast.Node, format string, args ...any) {
	at := c.Fset.Position(n.Pos())
	if !strings.HasSuffix(at.Filename, "_test.go") && !c.allow.covers(c.name, at) {
		c.Reportf(n.Pos(), format, args...)
	}
}

// allowed are the places where an analyzer has nothing to say.
type allowed struct {
	packages map[string]bool
	lines    map[string]map[string]map[int]bool // analyzer, file, line
}

func (a allowed) covers(analyzer string, at token.Position) bool {
	lines := a.lines[analyzer][at.Filename]
	return a.packages[analyzer] || lines[at.Line] || lines[at.Line-1]
}

// allowances reads the comments of a package. One without a reason allows nothing.
func allowances(pass *analysis.Pass) allowed {
	a := allowed{map[string]bool{}, map[string]map[string]map[int]bool{}}
	for _, file := range pass.Files {
		for _, group := range file.Comments {
			for _, comment := range group.List {
				rest, ok := strings.CutPrefix(comment.Text, "//landlordvet:allow ")
				name, reason, _ := strings.Cut(strings.TrimSpace(rest), " ")
				if !ok || reason == "" {
					continue
				}
				if comment.Pos() < file.Package {
					a.packages[name] = true
					continue
				}
				at := pass.Fset.Position(comment.Pos())
				if a.lines[name] == nil {
					a.lines[name] = map[string]map[int]bool{}
				}
				if a.lines[name][at.Filename] == nil {
					a.lines[name][at.Filename] = map[int]bool{}
				}
				a.lines[name][at.Filename][at.Line] = true
			}
		}
	}
	return a
}

// callee returns the function or method that is called, nil where it is a value.
func (c *check) callee(call *ast.CallExpr) *types.Func {
	fn, _ := typeutil.Callee(c.TypesInfo, call).(*types.Func)
	return fn
}

// calls runs visit for every call of the package whose function is known.
func (c *check) calls(visit func(call *ast.CallExpr, fn *types.Func, stack []ast.Node)) {
	c.files.WithStack([]ast.Node{(*ast.CallExpr)(nil)}, func(n ast.Node, push bool, stack []ast.Node) bool {
		if call := n.(*ast.CallExpr); push {
			if fn := c.callee(call); fn != nil && fn.Pkg() != nil {
				visit(call, fn, stack)
			}
		}
		return true
	})
}

// receiver returns the named type that a method belongs to as path.Name, "" for a function.
func receiver(fn *types.Func) string {
	recv := fn.Signature().Recv()
	if recv == nil {
		return ""
	}
	return typeName(recv.Type())
}

// typeName returns path.Name of a named type or of what a pointer to one points at.
func typeName(t types.Type) string {
	if p, ok := types.Unalias(t).(*types.Pointer); ok {
		t = p.Elem()
	}
	named, ok := types.Unalias(t).(*types.Named)
	if !ok || named.Obj().Pkg() == nil {
		return ""
	}
	return named.Obj().Pkg().Path() + "." + named.Obj().Name()
}

// sqlArgument returns the SQL of a call that runs or prepares some, nil of any other.
func sqlArgument(call *ast.CallExpr, fn *types.Func) ast.Expr {
	switch path := fn.Pkg().Path(); {
	case path != routerPath && path != "database/sql" && !strings.HasPrefix(path, pgxPath):
		return nil
	}
	at, ok := map[string]int{
		"Exec": 1, "Query": 1, "QueryRow": 1, "Prepare": 1, "Queue": 0,
		"ExecContext": 1, "QueryContext": 1, "QueryRowContext": 1, "PrepareContext": 1,
	}[fn.Name()]
	if !ok || receiver(fn) == "" {
		return nil
	}
	if at == 1 && fn.Signature().Params().Len() > 0 && !isContext(fn.Signature().Params().At(0).Type()) {
		at = 0 // those of database/sql without a context
	}
	if fn.Name() == "Prepare" && strings.HasPrefix(fn.Pkg().Path(), pgxPath) {
		at = 2 // after the statement's name
	}
	if at >= len(call.Args) {
		return nil
	}
	return call.Args[at]
}

func isContext(t types.Type) bool { return typeName(t) == "context.Context" }

// object returns what an identifier stands for, nil of any other expression.
func (c *check) object(e ast.Expr) types.Object {
	id, ok := ast.Unparen(e).(*ast.Ident)
	if !ok {
		return nil
	}
	return c.TypesInfo.ObjectOf(id)
}

// within tells whether an object is declared inside a node.
func within(o types.Object, n ast.Node) bool { return n.Pos() <= o.Pos() && o.Pos() < n.End() }

// parameters returns the named parameters of a function literal or declaration.
func (c *check) parameters(n ast.Node) (params []types.Object) {
	var list *ast.FieldList
	switch fn := n.(type) {
	case *ast.FuncLit:
		list = fn.Type.Params
	case *ast.FuncDecl:
		list = fn.Type.Params
	default:
		return nil
	}
	for _, field := range list.List {
		for _, name := range field.Names {
			if o := c.TypesInfo.ObjectOf(name); o != nil {
				params = append(params, o)
			}
		}
	}
	return params
}

// transaction returns the innermost function on the stack that is given a transaction, and that parameter.
func (c *check) transaction(stack []ast.Node) (fn ast.Node, tx types.Object) {
	for _, n := range slices.Backward(stack) {
		for _, p := range c.parameters(n) {
			if typeName(p.Type()) == routerPath+".Tx" {
				return n, p
			}
		}
	}
	return nil, nil
}
