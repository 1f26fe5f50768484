package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/landlord-go/landlord/placement"
)

// tenantDetail is what `tenant show` prints.
type tenantDetail struct {
	tenantView
	Fence      *fenceView  `json:"fence"` // null: the home has no row, or could not be asked
	FenceError string      `json:"fence_error,omitempty"`
	History    []eventView `json:"history"`
}

// fenceView is what the home itself says of a tenant.
type fenceView struct {
	State string `json:"state"`
	Epoch int64  `json:"epoch"`
}

type eventView struct {
	Seq    int64     `json:"seq"`
	At     time.Time `json:"at"`
	Actor  string    `json:"actor"`
	Kind   string    `json:"kind"`
	Epoch  int64     `json:"epoch"`
	Before string    `json:"before"`
	After  string    `json:"after"`
}

func newTenantShowCmd(a *app) *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "show SLUG",
		Short: "Show where a tenant lives, what its home says, and its history",
		Example: `  landlord tenant show acme
  landlord tenant show --id 0190f3c2-8a4e-7c63-9d35-6f1b1c0f7d21 --json | jq .fence`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := parseWhose(args, id)
			if err != nil {
				return err
			}
			return a.showTenant(cmd.Context(), w)
		},
	}
	idFlag(cmd, &id)
	return cmd
}

// idFlag lets a command take a tenant's id instead of its slug.
func idFlag(cmd *cobra.Command, id *string) {
	cmd.Flags().StringVar(id, "id", "", "the tenant's `id`, instead of its slug")
}

func (a *app) showTenant(ctx context.Context, w whose) error {
	h, err := a.house(ctx, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	t, err := h.tenant(ctx, w)
	if err != nil {
		return err
	}
	history, err := h.catalog.Log(ctx, placement.LogFilter{Tenant: t.ID})
	if err != nil {
		return err
	}
	out := tenantDetail{tenantView: viewTenant(t), History: []eventView{}}
	for _, e := range history {
		out.History = append(out.History, eventView{e.Seq, e.At, e.Actor, string(e.Kind), e.Epoch, e.Before, e.After})
	}
	err = h.atHome(ctx, t, func(conn *pgx.Conn) (err error) {
		out.Fence, err = findFence(ctx, conn, t)
		return err
	})
	if err != nil { // where the tenant lives is told all the same
		out.FenceError = err.Error()
	}
	return a.show(out, out.write)
}

// findFence returns what the home of a tenant says of it, or nil.
func findFence(ctx context.Context, conn *pgx.Conn, t placement.Tenant) (*fenceView, error) {
	const q = `select state, epoch from landlord.fence where tenant = $1 and home = $2` // by its primary key
	var f fenceView
	err := conn.QueryRow(ctx, q, t.ID.String(), t.Home.String()).Scan(&f.State, &f.Epoch)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the fence of tenant %s: %w", t.Slug, err)
	}
	return &f, nil
}

func (t tenantDetail) write(w io.Writer) {
	t.writeFields(w)
	switch {
	case t.FenceError != "":
		fmt.Fprintf(w, "fence\tunknown: %s\n", t.FenceError)
	case t.Fence == nil:
		fmt.Fprintln(w, "fence\tnone")
	default:
		fmt.Fprintf(w, "fence\t%s at epoch %d\n", t.Fence.State, t.Fence.Epoch)
	}
	fmt.Fprintln(w, "\nWHEN\tWHO\tWHAT\tEPOCH\tBEFORE\tAFTER")
	for _, e := range t.History {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", e.At.Local().Format(time.RFC3339), e.Actor, e.Kind, e.Epoch, e.Before, e.After)
	}
}
