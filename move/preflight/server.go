package preflight

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/placement"
)

// server is what matters of a PostgreSQL server.
type server struct {
	version      int // 150013
	system       string
	slots        int // free
	senders      int // free
	maxKeepBytes int64
}

// settings reads what the server is set up for. A move needs logical WAL at both ends: the source's carries what is written during the
// copy, the target's the way back.
func (c *checker) settings(ctx context.Context, s *side) error {
	const q = `
select current_setting('server_version_num')::int, (select system_identifier::text from pg_control_system()),
       current_setting('wal_level'),
       current_setting('max_replication_slots')::int - (select count(*)::int from pg_replication_slots),
       current_setting('max_wal_senders')::int - (select count(*)::int from pg_stat_replication),
       coalesce((select setting::bigint * 1024 * 1024 from pg_settings where name = 'max_slot_wal_keep_size' and setting <> '-1'), 0)`
	var level string
	v := &s.server
	if err := s.conn.QueryRow(ctx, q).Scan(&v.version, &v.system, &level, &v.slots, &v.senders, &v.maxKeepBytes); err != nil {
		return err
	}
	if c.Offline {
		return nil
	}
	if level != "logical" {
		c.problem(WALLevel, s.object("wal_level"), "it is "+level+", and changes cannot be followed",
			"set wal_level = logical and restart the server, or move the tenant with --offline, closed for as long as its copy takes")
	}
	if v.version < 150000 && s.model == placement.ModelShared {
		c.problem(ServerVersion, s.object("PostgreSQL"), fmt.Sprintf("version %d cannot publish one tenant's rows of a shared table", v.version/10000),
			"upgrade it to 15 or newer, or move the tenant with --offline")
	}
	if v.maxKeepBytes > 0 && v.maxKeepBytes < c.MaxWAL {
		c.warn(SlotKeepSize, s.object("max_slot_wal_keep_size"),
			fmt.Sprintf("the server lets a slot go that holds back more than %d bytes, and the move may hold back %d", v.maxKeepBytes, c.MaxWAL),
			"raise it, or a long copy may have to start again")
	}
	return nil
}

// slots checks whether there are enough for the stream there and the stream back.
func (c *checker) slots() {
	if c.Offline {
		return
	}
	need := 1
	sides := []*side{c.source, c.target}
	if c.source.server.system == c.target.server.system {
		need, sides = 2, sides[:1]
	}
	for _, s := range sides {
		if s.server.version == 0 {
			continue // not known
		}
		if s.server.slots < need {
			c.problem(FreeSlots, s.object("max_replication_slots"), fmt.Sprintf("%d are free, and the move needs %d", s.server.slots, need),
				"raise it and restart the server, or drop slots that nobody needs (pg_replication_slots)")
		}
		if s.server.senders < need {
			c.problem(FreeSenders, s.object("max_wal_senders"), fmt.Sprintf("%d are free, and the move needs %d", s.server.senders, need),
				"raise it and restart the server, or end what replicates and should not (pg_stat_replication)")
		}
	}
}

// privileges checks the operator's.
func (c *checker) privileges(ctx context.Context, s *side) error {
	const q = `
select r.rolsuper, r.rolreplication, r.rolbypassrls, coalesce(pg_has_role(r.oid, (select oid from pg_roles where rolname = 'landlord_owner'), 'usage'), false),
       has_database_privilege(current_database(), 'create'), r.rolname
  from pg_roles r where r.rolname = current_user`
	var super, replication, bypass, owner, create bool
	var name string
	if err := s.conn.QueryRow(ctx, q).Scan(&super, &replication, &bypass, &owner, &create, &name); err != nil {
		return err
	}
	if super {
		return nil
	}
	replica := false // before 15 nobody but superusers may set it
	if s.server.version >= 150000 {
		const q = `select has_parameter_privilege('session_replication_role', 'set')`
		if err := s.conn.QueryRow(ctx, q).Scan(&replica); err != nil {
			return err
		}
	}
	role := pgx.Identifier{name}.Sanitize()
	var lacks, fixes []string
	for _, p := range []struct {
		has       bool
		what, fix string
	}{
		{replication || c.Offline, "REPLICATION", "alter role " + role + " replication"},
		{bypass, "BYPASSRLS", "alter role " + role + " bypassrls"},
		{owner, "membership of landlord_owner", "grant landlord_owner to " + role},
		{create || c.Offline, "CREATE on the database", "grant create on database " + pgx.Identifier{s.home.Database}.Sanitize() + " to " + role},
		{replica, "SET on session_replication_role", "grant set on parameter session_replication_role to " + role},
	} {
		if !p.has {
			lacks, fixes = append(lacks, p.what), append(fixes, p.fix)
		}
	}
	if len(lacks) > 0 {
		c.problem(Privileges, s.object("the operator "+name), "the login lacks "+strings.Join(lacks, ", "), strings.Join(fixes, "; "))
	}
	return nil
}

// transactions looks for those that the making of a slot would wait for: all that write, in whatever database of the server.
func (c *checker) transactions(ctx context.Context, s *side) error {
	if c.Offline {
		return nil
	}
	const prepared = `select coalesce(string_agg(format('%s in database %s', quote_literal(gid), database), ', ' order by prepared), '') from pg_prepared_xacts`
	var found string
	if err := s.conn.QueryRow(ctx, prepared).Scan(&found); err != nil {
		return err
	}
	if found != "" {
		c.problem(PreparedXacts, s.object("prepared transactions"), found+": a slot cannot be made while they are there",
			"commit prepared or rollback prepared each of them")
	}
	const long = `
select coalesce(string_agg(format('pid %s of %s in database %s', pid, usename, datname), ', ' order by xact_start), '')
  from pg_stat_activity where backend_xid is not null and xact_start < now() - $1::interval`
	if err := s.conn.QueryRow(ctx, long, c.Old).Scan(&found); err != nil {
		return err
	}
	if found != "" {
		c.warn(LongXacts, s.object("long transactions"), fmt.Sprintf("%s: open for more than %s, and the move cannot begin before they end", found, c.Old),
			"let them end, or end them")
	}
	return nil
}

// standbys looks for those that may be promoted without the last commits: one that has lost the fence's would open a second home.
func (c *checker) standbys(ctx context.Context, s *side) error {
	const q = `
select coalesce(string_agg(format('%s (%s)', case when r.application_name = '' then 'pid ' || r.pid else r.application_name end,
                                  coalesce(r.sync_state, 'state not known')), ', ' order by r.pid), '')
  from pg_stat_replication r
 where r.sync_state is distinct from 'sync' and r.sync_state is distinct from 'quorum'
   and not exists (select from pg_replication_slots l where l.active_pid = r.pid and l.slot_type = 'logical')`
	var found string
	if err := s.conn.QueryRow(ctx, q).Scan(&found); err != nil {
		return err
	}
	if found == "" {
		return nil
	}
	report, fix := c.problem, "name them in synchronous_standby_names, or accept by --allow-async that a failover in the moment of the cutover needs a person"
	if c.AllowAsync {
		report = c.warn
	}
	report(AsyncStandby, s.object("standbys"), found+": one that is promoted without the cutover's commit would leave two homes open", fix)
	return nil
}
