package mistake

import (
	"go/ast"
	"go/constant"
	"go/types"
	"regexp"
	"strings"
)

var (
	sqlComment = regexp.MustCompile(`(?s)/\*.*?\*/|--[^\n]*`)
	// A third argument that is not true changes the session.
	sessionConfig = regexp.MustCompile(`(?is)set_config\s*\([^;]*?,\s*(false|'f'|'false'|'off'|0::bool\w*)\s*\)`)
)

// session finds constant SQL that changes the session and not the transaction.
func session(c *check) {
	c.calls(func(call *ast.CallExpr, fn *types.Func, _ []ast.Node) {
		arg := sqlArgument(call, fn)
		if arg == nil {
			return
		}
		value := c.TypesInfo.Types[arg].Value
		if value == nil || value.Kind() != constant.String {
			return
		}
		text := sqlComment.ReplaceAllString(constant.StringVal(value), " ")
		if sessionConfig.MatchString(text) {
			c.report(arg, "set_config(..., false) changes the session, which the next tenant would inherit: use true, or set local")
			return
		}
		for statement := range strings.SplitSeq(text, ";") {
			if act := sessionAct(strings.Fields(strings.ToLower(statement))); act != "" {
				c.report(arg, "%s changes the session, which the next tenant would inherit: use set local in a Tx", act)
				return
			}
		}
	})
}

// sessionAct names what a statement does to the session, "" for nothing.
func sessionAct(words []string) string {
	if len(words) < 2 {
		return ""
	}
	switch words[0] {
	case "set":
		switch words[1] {
		case "local", "transaction", "constraints":
			return ""
		}
		return "SET"
	case "reset", "discard", "listen", "load":
		return strings.ToUpper(words[0])
	}
	return ""
}
