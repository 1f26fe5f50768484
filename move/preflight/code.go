package preflight

import "github.com/landlord-go/landlord/move/table"

// What a check finds, besides what [table.Match] does.
const (
	Unreachable table.Code = "unreachable" // a cluster does not answer
	Unchecked   table.Code = "unchecked"   // a check failed

	TenantState   table.Code = "tenant-state"      // the tenant is not active
	OtherMove     table.Code = "other-move"        // the tenant is being moved, or a move left a hold
	TooManyMoves  table.Code = "too-many-moves"    // on one of the clusters
	SameHome      table.Code = "same-home"         // the tenant lives there already
	NoCluster     table.Code = "no-cluster"        // the catalog does not know it
	ClusterFull   table.Code = "cluster-full"      // marked full, draining, or at its capacity
	FenceState    table.Code = "fence"             // the source is not open at the catalog's epoch
	TargetHome    table.Code = "target-home"       // something of the tenant is at the target already
	NoTables      table.Code = "no-tables"         // the source has none of the tenant's
	RunningStep   table.Code = "running-step"      // a migration has begun outside a transaction and not ended
	SchemaVersion table.Code = "schema-version"    // the homes have other versions
	ReferenceRows table.Code = "reference-rows"    // reference tables have other rows
	ForeignRows   table.Code = "foreign-rows"      // a dedicated home has rows of another tenant
	WALLevel      table.Code = "wal-level"         // not logical
	FreeSlots     table.Code = "free-slots"        // too few replication slots
	FreeSenders   table.Code = "free-senders"      // too few WAL senders
	SlotKeepSize  table.Code = "slot-keep-size"    // warning: the server drops slots before the move would
	ServerVersion table.Code = "server-version"    // too old to publish one tenant's rows
	Privileges    table.Code = "privileges"        // of the operator
	PreparedXacts table.Code = "prepared"          // prepared transactions, which a slot waits for
	LongXacts     table.Code = "long-running"      // warning: transactions that a slot waits for
	AsyncStandby  table.Code = "async-standby"     // a standby that may lose the commit of a cutover
	Encoding      table.Code = "encoding"          // of the databases
	Collation     table.Code = "collation"         // of the databases
	CollVersion   table.Code = "collation-version" // warning: the same collations of other versions
	Extension     table.Code = "extension"         // missing at the target; a warning for another version
	LargeObjects  table.Code = "large-objects"     // are not in the stream
	ReplicaKey    table.Code = "replica-key"       // the replica identity leaves tenant_id out, or there is none
	ReplicaFull   table.Code = "replica-full"      // updates would be refused
	UnloggedTable table.Code = "unlogged"          // not in the WAL
	ForeignTable  table.Code = "foreign-table"     // its rows lie elsewhere
	ActiveTrigger table.Code = "active-trigger"    // fires for rows that are moved
	CrossingKey   table.Code = "crossing-key"      // a foreign key that leaves tenant_id out
	LateKey       table.Code = "late-key"          // a deferrable unique key
	ExclusionKey  table.Code = "exclusion-key"     // across tenants
	KeyCollision  table.Code = "key-collision"     // another tenant has the value
	SequenceCache table.Code = "sequence-cache"    // sessions of tables that others share keep numbers back
	GlobalKey     table.Code = "global-key"        // warning: a unique key across tenants, without a collision now
)
