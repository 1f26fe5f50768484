package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/landlord-go/landlord/move"
	"github.com/landlord-go/landlord/placement"
)

// slot is a replication slot of a server.
type slot struct {
	name, database, state string
	active                bool
	held                  int64 // bytes of the server's log that are kept for it
}

// wal reads what the server keeps of its log and for whom. On a standby, which keeps none for others, it finds no slots.
func (d *doctor) wal(ctx context.Context, conn *pgx.Conn, health *clusterHealth) (slots []slot, err error) {
	const settings = `select current_setting('wal_level'), current_setting('max_slot_wal_keep_size'), pg_is_in_recovery()`
	var standby bool
	if err := conn.QueryRow(ctx, settings).Scan(&health.WALLevel, &health.MaxSlotWALKeepSize, &standby); err != nil {
		return nil, err
	}
	if standby {
		return nil, nil
	}
	if health.WALLevel != "logical" {
		d.warn("cluster "+health.Name, "alter system set wal_level = logical, and restart the server; or move with --offline",
			"wal_level is %s: no tenant can be moved from or to it while it is used", health.WALLevel)
	}
	const q = `
select slot_name, coalesce(database, ''), coalesce(wal_status, ''), active,
       coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint
  from pg_replication_slots where not temporary order by slot_name`
	rows, err := conn.Query(ctx, q)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s slot, err error) {
		return s, row.Scan(&s.name, &s.database, &s.state, &s.active, &s.held)
	})
}

// heldFor says what servers keep of their log for a move.
func (d *doctor) heldFor(m placement.Move) (text string) {
	for _, c := range d.out.Clusters {
		for _, s := range d.keeps[c.Name] {
			if s.name == m.ForwardSlot || s.name == m.ReverseSlot {
				text += fmt.Sprintf("; its slot %s holds back %s of the log of cluster %s%s", s.name, bytesText(s.held), c.Name, c.keepsUntil())
			}
		}
	}
	return text
}

// slots finds those that are lost, and those that nobody reads: the server keeps its log for them until the disk is full. What a move
// that stands still holds back is said there, and what is left of one which is over is residue: see moves.
func (d *doctor) slots(ctx context.Context) error {
	moves, err := d.h.catalog.Moves(ctx, placement.MoveFilter{Active: true})
	if err != nil {
		return err
	}
	moveOf := map[string]placement.Move{}
	for _, m := range moves {
		moveOf[m.ForwardSlot], moveOf[m.ReverseSlot] = m, m
	}
	delete(moveOf, "")
	seen := map[string]bool{} // several clusters may be on one server
	for _, c := range d.out.Clusters {
		for _, s := range d.keeps[c.Name] {
			if seen[s.name+" "+s.database] {
				continue
			}
			seen[s.name+" "+s.database] = true
			m, ours := moveOf[s.name]
			switch {
			case ours && s.state == "lost":
				d.find("cluster "+c.Name, fmt.Sprintf("before the cutover: landlord move abort %s, and start anew; after it: landlord move complete %[1]s", m.Slug),
					"slot %s of the move of tenant %s is lost: the server has thrown away log that it needs (max_slot_wal_keep_size = %s)",
					s.name, m.Slug, c.MaxSlotWALKeepSize)
			case s.active || ours: // whether somebody works at the move is asked there
			case strings.HasPrefix(s.name, move.ObjectPrefix): // residue, or another installation's
			default:
				d.warn("cluster "+c.Name, fmt.Sprintf("start what reads it; if that is gone for good: select pg_drop_replication_slot('%s')", s.name),
					"slot %s, which is not landlord's, holds back %s of the server's log%s, and nobody reads it", s.name, bytesText(s.held), c.keepsUntil())
			}
		}
	}
	return nil
}

// keepsUntil says when the server stops to keep its log for a slot that nobody reads.
func (c clusterHealth) keepsUntil() string {
	if c.MaxSlotWALKeepSize == "-1" {
		return " (max_slot_wal_keep_size is -1: until the disk is full)"
	}
	return " (up to max_slot_wal_keep_size = " + c.MaxSlotWALKeepSize + ")"
}
