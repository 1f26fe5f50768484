package lint

import (
	"slices"
	"strconv"
	"strings"

	"github.com/landlord-go/landlord/migrate/internal/sqltext"
)

// column is a column as CREATE TABLE or ADD COLUMN defines it.
type column struct {
	name       string
	typ        dataType
	value      []sqltext.Token // DEFAULT
	notNull    bool
	primary    bool
	unique     bool
	identity   bool
	stored     bool // GENERATED ALWAYS AS (...) STORED
	check      []sqltext.Token
	references string
}

// What ends a type or an expression in the definition of a column.
var columnKeywords = []string{
	"constraint", "not", "null", "default", "primary", "unique", "check", "references", "generated", "collate", "deferrable",
	"initially", "storage", "compression", "options", "using",
}

// readColumn reads a column's definition.
func readColumn(tokens []sqltext.Token) *column {
	c := &cursor{rest: tokens}
	col := &column{name: c.name()}
	if !slices.Contains(columnKeywords, c.word()) {
		col.typ = readType(c.until(columnKeywords...))
	}
	for len(c.rest) > 0 {
		switch {
		case c.accept("constraint"):
			c.name()
		case c.accept("not", "null"):
			col.notNull = true
		case c.accept("default"):
			value := c.rest
			c.skip("not", "null") // these are values here
			c.until(columnKeywords...)
			col.value = value[:len(value)-len(c.rest)]
		case c.accept("primary", "key"):
			col.primary, col.notNull = true, true
		case c.accept("unique"):
			col.unique = true
		case c.accept("check"):
			col.check, _ = c.parens()
		case c.accept("references"):
			col.references = c.name()
			c.parens()
			c.actions()
		case c.accept("generated"):
			how := c.until("as")
			c.accept("as")
			col.identity = c.accept("identity")
			c.parens()
			col.stored = has(how, "always") && c.accept("stored")
		default:
			c.rest = c.rest[1:]
		}
	}
	return col
}

// actions passes what a foreign key says of its match and of deletes and updates.
func (c *cursor) actions() {
	for c.accept("match") || c.accept("on", "delete") || c.accept("on", "update") {
		if !c.accept("set", "null") && !c.accept("set", "default") && !c.accept("no", "action") {
			c.name()
		}
		c.parens()
	}
}

// dataType is a type under its shortest name, with its modifiers.
type dataType struct {
	base  string
	args  []int
	array bool
}

var typeNames = map[string]string{
	"int": "integer", "int4": "integer", "int8": "bigint", "int2": "smallint",
	"character varying": "varchar", "char varying": "varchar", "character": "char", "bpchar": "char", "decimal": "numeric",
	"timestamp without time zone": "timestamp", "timestamp with time zone": "timestamptz",
	"serial4": "serial", "serial8": "bigserial", "serial2": "smallserial", "bool": "boolean", "float8": "double precision",
}

// readType reads the name of a type.
func readType(tokens []sqltext.Token) dataType {
	var t dataType
	var words []string
	c := &cursor{rest: tokens}
	for len(c.rest) > 0 {
		if inner, ok := c.parens(); ok {
			for _, part := range splitAll(inner, ",") {
				n, err := strconv.Atoi(joined(part))
				if err == nil {
					t.args = append(t.args, n)
				}
			}
			continue
		}
		switch name := c.name(); {
		case name != "":
			words = append(words, name)
		default:
			t.array = t.array || is(c.rest[0], "[")
			c.rest = c.rest[1:]
		}
	}
	t.base = strings.Join(words, " ")
	if short, ok := typeNames[t.base]; ok {
		t.base = short
	}
	return t
}

func (t dataType) serial() bool {
	return t.base == "serial" || t.base == "bigserial" || t.base == "smallserial"
}

// narrow reports whether numbers of the type end where a busy table gets to.
func (t dataType) narrow() bool {
	return slices.Contains([]string{"integer", "smallint", "serial", "smallserial"}, t.base)
}

// becomes reports whether PostgreSQL can call values of type t values of another type without writing them anew. Time zones
// count as UTC: so the files are run.
func (t dataType) becomes(to dataType) bool {
	if t.base == "" || t.array || to.array {
		return t.base != "" && t.base == to.base && t.array == to.array && slices.Equal(t.args, to.args)
	}
	wider := len(to.args) == 0 || len(t.args) > 0 && to.args[0] >= t.args[0]
	switch {
	case t.base == to.base && slices.Equal(t.args, to.args):
		return true
	case to.base == "varchar" && (t.base == "varchar" || t.base == "text"), to.base == "text" && t.base == "varchar":
		return wider
	case t.base == "numeric" && to.base == "numeric":
		return wider && slices.Equal(t.scale(), to.scale()) || len(to.args) == 0
	case isTimestamp(t) && isTimestamp(to):
		return wider
	}
	return false
}

func isTimestamp(t dataType) bool { return t.base == "timestamp" || t.base == "timestamptz" }

// scale is how many digits of a numeric stand after the point.
func (t dataType) scale() []int {
	if len(t.args) < 2 {
		return []int{0}
	}
	return t.args[1:]
}

// Functions whose value is the same for every row of a statement, as a default that rewrites nothing needs.
var steady = []string{
	"now", "transaction_timestamp", "statement_timestamp", "current_setting", "current_schema", "current_timestamp",
	"localtimestamp", "current_time", "localtime", "date_trunc", "to_char", "to_timestamp", "to_date", "make_date", "make_interval",
	"make_timestamptz", "timezone", "extract", "lower", "upper", "md5", "left", "right", "length", "concat", "coalesce", "nullif",
	"greatest", "least", "cast", "row", "array", "array_fill", "jsonb_build_object", "jsonb_build_array", "json_build_object",
	"json_build_array", "to_jsonb", "to_json", "int4range", "int8range", "numrange", "daterange", "tsrange", "tstzrange", "tenant",
	"and", "or", "not", "in", "is", "interval", "varying", "precision", "numeric", "varchar", "char", "bit", "timestamp", "timestamptz", "time",
}

// volatile reports whether a default calls a function whose value may differ from row to row. What is not known to be steady
// is taken not to be, as PostgreSQL does with functions that do not say.
func volatile(value []sqltext.Token) bool {
	for i := 1; i < len(value); i++ {
		before := value[i-1]
		if is(value[i], "(") && before.Kind <= sqltext.Quoted && !slices.Contains(steady, before.Text) &&
			(i < 2 || !is(value[i-2], ":")) { // a type, as in ::numeric(12, 2)
			return true
		}
	}
	return false
}
