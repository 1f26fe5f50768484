package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
)

// demoClients is how many clients each tenant has at once.
const demoClients = 2

// demoTraffic is what one tenant's clients met.
type demoTraffic struct {
	Tenant       string  `json:"tenant"`
	Model        string  `json:"model"`
	Home         string  `json:"home"`
	FirstMS      float64 `json:"first_ms"` // the first statement: placement looked up, connection opened
	Transactions int     `json:"transactions"`
	Reads        int     `json:"reads"`
	MedianMS     float64 `json:"read_median_ms"`
	P99MS        float64 `json:"read_p99_ms"`
}

// demoShop is the application: it knows no model, no server and no tenant_id.
type demoShop struct{ db *router.DB }

// order places an order of a few lines for a new customer, in one transaction.
func (s demoShop) order(ctx context.Context, email string) error {
	return s.db.Tx(ctx, func(ctx context.Context, tx *router.Tx) error {
		var customer, order int64
		const newCustomer = `
insert into customers (email, name) values ($1, 'customer ' || $1)
on conflict (tenant_id, email) do update set name = excluded.name returning id`
		if err := tx.QueryRow(ctx, newCustomer, email).Scan(&customer); err != nil {
			return err
		}
		const newOrder = `insert into orders (customer_id, currency) values ($1, 'EUR') returning id`
		if err := tx.QueryRow(ctx, newOrder, customer).Scan(&order); err != nil {
			return err
		}
		const newLines = `
insert into order_lines (order_id, position, product, quantity, unit_price)
select $1, n, 'product ' || n, n, n * 9.90 from generate_series(1, 3) n`
		_, err := tx.Exec(ctx, newLines, order)
		return err
	})
}

// revenue reads what one customer has ordered.
func (s demoShop) revenue(ctx context.Context, email string) (total float64, err error) {
	const q = `
select coalesce(sum(l.quantity * l.unit_price), 0)::float8
  from customers c join orders o on o.customer_id = c.id join order_lines l on l.order_id = o.id
 where c.email = $1`
	err = s.db.QueryRow(ctx, q, email).Scan(&total)
	return total, err
}

// demoRun lets the clients of every tenant work at once for a while.
func demoRun(ctx context.Context, r *router.Router, tenants []placement.Placement, length time.Duration) ([]demoTraffic, error) {
	all := make([]demoTraffic, len(tenants))
	for i, p := range tenants { // one after the other: a first call is not to be measured in a crowd
		all[i] = demoTraffic{Tenant: string(p.Slug), Model: string(p.Model), Home: p.Home.String()}
		began := time.Now()
		if _, err := (demoShop{r.Tenant(p.Tenant)}).revenue(ctx, "nobody@example.com"); err != nil {
			return nil, fmt.Errorf("first call of tenant %s: %w", p.Slug, err)
		}
		all[i].FirstMS = milliseconds(time.Since(began))
	}
	limited, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var mu sync.Mutex // guards all and reads
	reads := make([][]time.Duration, len(tenants))
	g, gctx := errgroup.WithContext(limited)
	for i, p := range tenants {
		for client := range demoClients {
			g.Go(func() error {
				orders, took, err := demoClient(gctx, demoShop{r.Tenant(p.Tenant)}, client)
				mu.Lock()
				defer mu.Unlock()
				all[i].Transactions += orders
				reads[i] = append(reads[i], took...)
				if err != nil {
					return fmt.Errorf("client of tenant %s: %w", p.Slug, err)
				}
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, took := range reads {
		slices.Sort(took)
		all[i].Reads = len(took)
		all[i].MedianMS, all[i].P99MS = milliseconds(percentile(took, 50)), milliseconds(percentile(took, 99))
	}
	return all, ctx.Err()
}

// demoClient places orders and reads them back until ctx ends, and returns how many, and how long each read took.
func demoClient(ctx context.Context, shop demoShop, client int) (orders int, reads []time.Duration, err error) {
	for ctx.Err() == nil {
		email := fmt.Sprintf("client%d-%d@example.com", client, rand.N(50))
		if err := shop.order(ctx, email); err != nil {
			return orders, reads, unlessOver(ctx, err)
		}
		orders++
		for range 4 {
			began := time.Now()
			total, err := shop.revenue(ctx, email)
			if err != nil {
				return orders, reads, unlessOver(ctx, err)
			}
			if total == 0 {
				return orders, reads, errors.New("an order that was committed is not there")
			}
			reads = append(reads, time.Since(began))
		}
	}
	return orders, reads, nil
}

// unlessOver returns err, or nil if it only says that the time is over.
func unlessOver(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil
	}
	return err
}

func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
