package bad

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/landlord-go/landlord/router"
)

func built(ctx context.Context, db *router.DB, std *sql.DB, name, column string) {
	_, _ = db.Exec(ctx, "delete from customers where name = '"+name+"'")             // want `put together from values`
	_, _ = db.Query(ctx, fmt.Sprintf("select * from customers order by %s", column)) // want `put together from values`
	query := "select * from customers"
	if name != "" {
		query += " where name = '" + name + "'"
	}
	_, _ = db.Query(ctx, query)                       // want `put together from values`
	_ = std.QueryRowContext(ctx, "select "+column)    // want `put together from values`
	_, _ = std.Exec("drop table " + fmt.Sprint(name)) // want `put together from values`
	again := fmt.Sprintf("select %d, '%s'", 1, name)
	_ = db.QueryRow(ctx, again) // want `put together from values`
}
