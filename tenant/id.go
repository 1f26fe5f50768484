// Package tenant holds what every other package says about a customer: the id, the slug, and the place of the id on a
// context.
//
// It guarantees that an ID is canonical (two spellings of one id compare equal), that it has the installation's one
// type, and that a context which carries a tenant never changes to another one. It imports nothing of ours; where a
// tenant lives, and whether it exists at all, is left to package placement.
package tenant

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// ErrBadID reports text that is no tenant id of the installation's type. The error that wraps it says what is accepted.
var ErrBadID = errors.New("bad tenant id")

// IDType is the type of the tenant_id columns. An installation chooses one, once.
type IDType string

// The id types.
const (
	UUID   IDType = "uuid"
	BigInt IDType = "bigint"
	Text   IDType = "text"
)

// MaxTextID is the greatest length, in bytes, of an id of type Text: it stands in primary keys and in tokens.
const MaxTextID = 128

// ParseIDType reads the name of an id type.
func ParseIDType(s string) (IDType, error) {
	switch t := IDType(s); t {
	case UUID, BigInt, Text:
		return t, nil
	}
	return "", fmt.Errorf("read id type %.40q: use uuid, bigint or text", s)
}

// ID identifies a tenant. It is comparable, and canonical: ids are equal exactly when PostgreSQL finds them equal. The
// zero ID is no tenant. Only [IDType.Parse] and [IDType.New] make others.
type ID struct{ s string }

// String returns the canonical text, as PostgreSQL prints it; "" for no tenant.
func (id ID) String() string { return id.s }

// IsZero reports whether id is no tenant.
func (id ID) IsZero() bool { return id.s == "" }

// MarshalText returns the canonical text. There is no UnmarshalText: reading an id needs its type.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.s), nil }

// Parse reads an id in any spelling that the type allows and returns it in canonical form:
//
//   - uuid: 32 hexadecimal digits in either case, with the four usual dashes or none; becomes lower case with dashes.
//     The nil uuid is refused: it is what a forgotten variable holds.
//   - bigint: a positive decimal number below 2^63, without sign or leading zeros.
//   - text: 1 to 128 bytes of UTF-8 without leading or trailing space and without invisible (control, format, line
//     separator) characters; compared byte by byte.
//
// Its errors wrap [ErrBadID].
func (t IDType) Parse(s string) (ID, error) {
	var canonical, want string
	switch t {
	case UUID:
		canonical, want = parseUUID(s), "a uuid that is not nil, such as 0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d21"
	case BigInt:
		canonical, want = parseBigInt(s), "a positive decimal number below 2^63, without leading zeros"
	case Text:
		canonical, want = parseText(s), "1 to 128 bytes of UTF-8 without outer spaces or invisible characters"
	default:
		return ID{}, fmt.Errorf("parse tenant id: unknown id type %.40q: use uuid, bigint or text", string(t))
	}
	if canonical == "" {
		return ID{}, fmt.Errorf("parse tenant id %.40q: %w: give %s", s, ErrBadID, want)
	}
	return ID{canonical}, nil
}

// New returns a fresh random id. Only type UUID has such; for the others the caller must name the tenant, and the error
// says so.
func (t IDType) New() (ID, error) {
	if t != UUID {
		return ID{}, fmt.Errorf("make tenant id: ids of type %s are not generated: %w: give one", t, ErrBadID)
	}
	u, err := uuid.NewRandom()
	if err != nil {
		return ID{}, fmt.Errorf("make tenant id: %w", err)
	}
	return ID{u.String()}, nil
}

func parseUUID(s string) string {
	if len(s) != 36 && len(s) != 32 { // uuid.Parse also takes urn:uuid: and braces
		return ""
	}
	u, err := uuid.Parse(s)
	if err != nil || u == uuid.Nil {
		return ""
	}
	return u.String()
}

func parseBigInt(s string) string {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || strconv.FormatInt(n, 10) != s {
		return ""
	}
	return s
}

func parseText(s string) string {
	invisible := func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }
	if len(s) > MaxTextID || !utf8.ValidString(s) || strings.TrimSpace(s) != s || strings.ContainsFunc(s, invisible) {
		return ""
	}
	return s
}
