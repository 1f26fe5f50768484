// Package pgerr names the SQLSTATEs that landlord raises or acts on.
//
// It guarantees that an error is judged by its code, however deeply it is wrapped, and never by its text, which
// PostgreSQL translates. What follows from a code (a retry, a typed error) is left to the caller.
package pgerr

import (
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Raised by landlord's own functions, beside the data.
const (
	NoTenant  = "LL001" // the tenant context was read, and there is none
	NotHere   = "LL002" // the tenant does not live here, or the router's placement is stale; DETAIL says where to
	Fenced    = "LL003" // the tenant is being moved
	Suspended = "LL004" // the tenant is suspended
	BadSeal   = "LL005" // the token presented to enter was not made with a key known here
	Behind    = "LL006" // the home's schema version does not fit the caller's
	Overtaken = "LL007" // another worker has taken over the schema that the caller migrates
	Applied   = "LL008" // the migration is applied already; nothing of it has run
	Held      = "LL009" // the home is being moved, and must stay as it is until that is over
	Outdated  = "LL010" // the application was written for tables that the fleet has left behind
)

// Connections: classes 08 and 53, and 57P01 to 57P05.
const (
	ConnectionException        = "08000"
	SQLClientCannotConnect     = "08001"
	ConnectionDoesNotExist     = "08003"
	ServerRejectedConnection   = "08004"
	ConnectionFailure          = "08006"
	ProtocolViolation          = "08P01"
	InsufficientResources      = "53000"
	DiskFull                   = "53100"
	OutOfMemory                = "53200"
	TooManyConnections         = "53300"
	ConfigurationLimitExceeded = "53400"
	QueryCanceled              = "57014"
	AdminShutdown              = "57P01"
	CrashShutdown              = "57P02"
	CannotConnectNow           = "57P03"
	DatabaseDropped            = "57P04"
	IdleSessionTimeout         = "57P05"
)

// Who asks: logins, privileges.
const (
	InvalidAuthorization  = "28000"
	InvalidPassword       = "28P01"
	InsufficientPrivilege = "42501"
)

// Transactions and locks.
const (
	ActiveTransaction          = "25001"
	ReadOnlyTransaction        = "25006"
	NoActiveTransaction        = "25P01"
	InFailedTransaction        = "25P02"
	IdleInTransactionTimeout   = "25P03"
	TransactionTimeout         = "25P04"
	TransactionRollback        = "40000"
	IntegrityRollback          = "40002"
	SerializationFailure       = "40001"
	DeadlockDetected           = "40P01"
	LockNotAvailable           = "55P03"
	ObjectNotInPrerequisite    = "55000"
	ObjectInUse                = "55006"
	InvalidSavepoint           = "3B001"
	InvalidPreparedStatement   = "26000"
	DuplicatePreparedStatement = "42P05"
)

// Data and constraints.
const (
	RaiseException        = "P0001"
	AssertFailure         = "P0004"
	InvalidText           = "22P02"
	NotNullViolation      = "23502"
	RestrictViolation     = "23001" // from PostgreSQL 18 on, of a foreign key ON DELETE RESTRICT
	ForeignKeyViolation   = "23503"
	UniqueViolation       = "23505"
	CheckViolation        = "23514"
	ExclusionViolation    = "23P01"
	WithCheckViolation    = "44000"
	StringTooLong         = "22001"
	NumericOutOfRange     = "22003"
	InvalidParameterValue = "22023"
)

// Objects.
const (
	FeatureNotSupported = "0A000"
	SyntaxError         = "42601"
	UndefinedTable      = "42P01"
	UndefinedColumn     = "42703"
	UndefinedFunction   = "42883"
	UndefinedObject     = "42704"
	UndefinedDatabase   = "3D000"
	UndefinedSchema     = "3F000"
	DuplicateDatabase   = "42P04"
	DuplicateSchema     = "42P06"
	DuplicateTable      = "42P07"
	DuplicateColumn     = "42701"
	DuplicateFunction   = "42723"
	DuplicateObject     = "42710"
	DependentObjects    = "2BP01"
	WrongObjectType     = "42809"
	InternalError       = "XX000" // also "tuple concurrently updated", raised by concurrent GRANT and ALTER ROLE
)

// FromPooler tells whether err is the word of a pooler in between: it has no place in PostgreSQL's sources. A pooler does not know
// what the server has done of what was sent.
func FromPooler(err error) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return ok && answer.Routine == ""
}

// Is reports whether PostgreSQL raised err with one of codes. A code of two letters stands for its whole class:
// Is(err, "08") is true of every connection exception.
func Is(err error, codes ...string) bool {
	code := Code(err)
	return code != "" && slices.ContainsFunc(codes, func(c string) bool {
		return c == code || len(c) == 2 && strings.HasPrefix(code, c)
	})
}

// Code is the SQLSTATE that PostgreSQL gave err, or "" if err does not come from PostgreSQL.
func Code(err error) string {
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pe.Code
	}
	return ""
}
