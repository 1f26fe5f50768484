package otelrouter_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/landlord-go/landlord/internal/pgtest"
	"github.com/landlord-go/landlord/internal/testhouse"
	"github.com/landlord-go/landlord/isolation"
	"github.com/landlord-go/landlord/placement"
	"github.com/landlord-go/landlord/router"
	"github.com/landlord-go/landlord/router/otelrouter"
	"github.com/landlord-go/landlord/tenant"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// traced returns a router and the spans that it has ended.
func traced(t *testing.T, h *testhouse.House, change ...func(*router.Config)) (*router.Router, *tracetest.SpanRecorder) {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	t.Cleanup(func() { _ = tp.Shutdown(context.Background()) })
	change = append(change, func(cfg *router.Config) { cfg.Tracer = otelrouter.New(tp) })
	return h.Router(t, change...), recorder
}

// attributes returns a span's attributes by key.
func attributes(s sdktrace.ReadOnlySpan) map[string]string {
	all := make(map[string]string)
	for _, a := range s.Attributes() {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}

// expected are the attributes of a call that went well.
func expected(p placement.Placement, verb string) map[string]string {
	all := map[string]string{
		"db.system.name": "postgresql", "landlord.tenant": p.Tenant.String(), "landlord.model": string(p.Model),
		"landlord.cluster": p.Home.Cluster, "landlord.retries": "0",
	}
	if verb != "" {
		all["db.operation.name"] = verb
	}
	return all
}

const secretText = "a secret of a customer"

func TestEveryCallIsASpanThatSaysWhoseAndWhere(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	for _, m := range []placement.Model{placement.ModelShared, placement.ModelSchema, placement.ModelDatabase} {
		p := h.Add(t, "traced-"+string(m), m, "a")
		r, recorder := traced(t, h)
		db := r.Tenant(p.Tenant)

		_, err := db.Exec(t.Context(), "insert into customers (email, name) values ($1, '"+secretText+"')", secretText)
		require.NoError(t, err)
		rows, err := db.Query(t.Context(), "select name from customers")
		require.NoError(t, err)
		require.Len(t, recorder.Ended(), 1, "a query is over when its rows are closed")
		rows.Close()
		var batch pgx.Batch
		batch.Queue("select 1")
		require.NoError(t, db.SendBatch(t.Context(), &batch).Close())
		_, err = db.CopyFrom(t.Context(), pgx.Identifier{"customers"}, []string{"email", "name"}, pgx.CopyFromRows([][]any{{"c", "c"}}))
		require.NoError(t, err)

		spans := recorder.Ended()
		require.Len(t, spans, 4)
		for i, want := range []struct{ name, verb string }{
			{"landlord exec", "insert"}, {"landlord query", "select"}, {"landlord batch", ""}, {"landlord copy", ""},
		} {
			require.Equal(t, want.name, spans[i].Name())
			require.Equal(t, expected(p, want.verb), attributes(spans[i]))
			require.Equal(t, codes.Unset, spans[i].Status().Code)
			require.False(t, spans[i].Parent().IsValid())
		}
		require.NotContains(t, fmt.Sprintf("%+v", tracetest.SpanStubsFromReadOnlySpans(spans)), secretText)
	}
}

func TestATransactionIsASpanAndItsStatementsAreItsChildren(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	p := h.Add(t, "traced", placement.ModelSchema, "a")
	r, recorder := traced(t, h)
	require.NoError(t, r.Tenant(p.Tenant).Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
		var n int
		if err := tx.QueryRow(ctx, "select count(*) from customers").Scan(&n); err != nil {
			return err
		}
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"customers"}, []string{"email", "name"}, pgx.CopyFromRows([][]any{{"c", "c"}}))
		return err
	}))
	db := r.SQL()
	defer db.Close()
	ctx, err := tenant.NewContext(t.Context(), p.Tenant)
	require.NoError(t, err)
	std, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	_, err = std.ExecContext(ctx, "delete from customers")
	require.NoError(t, err)
	require.NoError(t, std.Rollback())

	spans := recorder.Ended()
	require.Len(t, spans, 5)
	query, copied, tx := spans[0], spans[1], spans[2]
	require.Equal(t, []string{"landlord query", "landlord copy", "landlord tx"}, []string{query.Name(), copied.Name(), tx.Name()})
	require.Equal(t, expected(p, "select"), attributes(query))
	require.Equal(t, expected(p, ""), attributes(copied))
	require.Equal(t, expected(p, ""), attributes(tx))
	for _, child := range []sdktrace.ReadOnlySpan{query, copied} {
		require.Equal(t, tx.SpanContext().SpanID(), child.Parent().SpanID())
	}
	require.Equal(t, "landlord exec", spans[3].Name())
	require.Equal(t, "landlord tx", spans[4].Name())
}

func TestARetriedTenantsSpanSaysSo(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	p := h.Add(t, "moving", placement.ModelShared, "a")
	r, recorder := traced(t, h, func(cfg *router.Config) { cfg.MoveWait = 200 * time.Millisecond })
	db := r.Tenant(p.Tenant)
	fence := func(s isolation.FenceState) {
		t.Helper()
		const q = `update landlord.fence set state = $2, fenced_until = clock_timestamp() + interval '1 minute' where tenant = $1`
		_, err := h.Super(t, p.Home.Database).Exec(t.Context(), q, p.Tenant.String(), string(s))
		require.NoError(t, err)
	}
	fence(isolation.Fenced)
	_, err := db.Exec(t.Context(), "select 1")
	require.ErrorIs(t, err, router.ErrMoving)
	fence(isolation.Open)
	_, err = db.Exec(t.Context(), "select 1")
	require.NoError(t, err)
	fence(isolation.Fenced)
	time.AfterFunc(20*time.Millisecond, func() { fence(isolation.Open) })
	require.NoError(t, db.Tx(t.Context(), func(ctx context.Context, tx *router.Tx) error {
		_, err := tx.Exec(ctx, "select 1")
		if err == nil {
			_, err = tx.Exec(ctx, "select 2")
		}
		return err
	}))

	spans := recorder.Ended()
	require.Len(t, spans, 5)
	require.Equal(t, codes.Error, spans[0].Status().Code)
	require.Equal(t, "moving", spans[0].Status().Description)
	require.Equal(t, "moving", attributes(spans[0])["error.type"])
	require.NotEqual(t, "0", attributes(spans[0])["landlord.retries"])
	require.Equal(t, expected(p, "select"), attributes(spans[1]))
	first, second, tx := attributes(spans[2]), attributes(spans[3]), attributes(spans[4])
	require.NotEqual(t, "0", first["landlord.retries"], "the statement that opened the transaction")
	require.Equal(t, "0", second["landlord.retries"])
	require.Equal(t, first["landlord.retries"], tx["landlord.retries"])
}

func TestAnErrorIsNamedAndNotQuoted(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{Clusters: []string{"a"}})
	p := h.Add(t, "failing", placement.ModelShared, "a")
	r, recorder := traced(t, h)
	db := r.Tenant(p.Tenant)
	for range 2 {
		_, _ = db.Exec(t.Context(), "insert into customers (email, name) values ($1, '')", secretText)
	}
	_, err := db.Exec(t.Context(), "drop table customers")
	require.ErrorIs(t, err, router.ErrRefused)
	_, err = r.Tenant(h.NewID(t)).Exec(t.Context(), "select 1")
	require.ErrorIs(t, err, router.ErrUnknownTenant)
	suspended, err := h.Catalog.Tenant(t.Context(), p.Tenant)
	require.NoError(t, err)
	require.NoError(t, h.Service.Suspend(t.Context(), suspended))
	_, err = db.Exec(t.Context(), "select 1")
	require.ErrorIs(t, err, router.ErrSuspended)

	spans := recorder.Ended()
	require.Len(t, spans, 5)
	var types []string
	for _, s := range spans[1:] {
		require.Equal(t, codes.Error, s.Status().Code)
		types = append(types, attributes(s)["error.type"])
		require.Empty(t, s.Events())
	}
	require.Equal(t, []string{"23505", "refused", "unknown_tenant", "suspended"}, types)
	require.Equal(t, "sqlstate_23", spans[1].Status().Description)
	require.NotContains(t, attributes(spans[3]), "landlord.cluster", "it got nowhere")
	require.NotContains(t, fmt.Sprintf("%+v", tracetest.SpanStubsFromReadOnlySpans(spans)), secretText)
}
