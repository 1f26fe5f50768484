package repl

import (
	"database/sql/driver"
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in a server's write-ahead log. Zero is before everything.
type LSN uint64

// String writes l as PostgreSQL does: "16/B374D848".
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// ParseLSN reads what String and PostgreSQL write.
func ParseLSN(s string) (LSN, error) {
	high, low, ok := strings.Cut(s, "/")
	h, err := strconv.ParseUint(high, 16, 32)
	l, err2 := strconv.ParseUint(low, 16, 32)
	if !ok || err != nil || err2 != nil {
		return 0, fmt.Errorf("read a position in the log: %q is not of the form 16/B374D848", s)
	}
	return LSN(h<<32 | l), nil
}

// Scan reads a pg_lsn or its text.
func (l *LSN) Scan(src any) error {
	s, ok := src.(string)
	if !ok {
		return fmt.Errorf("read a position in the log: it is a %T", src)
	}
	parsed, err := ParseLSN(s)
	if err == nil {
		*l = parsed
	}
	return err
}

// Value is the text of a pg_lsn.
func (l LSN) Value() (driver.Value, error) { return l.String(), nil }
