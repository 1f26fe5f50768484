// Package otelrouter makes OpenTelemetry spans of a router's calls.
//
// It guarantees one span per call of a handle, one per transaction, and one below that per statement in it, each with the
// tenant and, once known, where it went; and that no SQL, no argument and no text of an error is in any of them, because
// those may hold customers' data. Exporting and sampling are the provider's business.
package otelrouter

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/landlord-go/landlord/router"
)

// The attributes of a span. Those without a prefix of ours follow OpenTelemetry's semantic conventions for databases.
const (
	systemKey    = attribute.Key("db.system.name")
	operationKey = attribute.Key("db.operation.name")
	errorKey     = attribute.Key("error.type")
	tenantKey    = attribute.Key("landlord.tenant")
	modelKey     = attribute.Key("landlord.model")
	clusterKey   = attribute.Key("landlord.cluster")
	retriesKey   = attribute.Key("landlord.retries")
)

type tracer struct{ tracer trace.Tracer }

// New returns the tracer for router.Config.Tracer. A failed call's span has the status error with what router.Outcome says,
// and in error.type the SQLSTATE where PostgreSQL gave one.
func New(tp trace.TracerProvider) router.Tracer {
	return tracer{tp.Tracer("github.com/landlord-go/landlord/router/otelrouter")}
}

// Start begins a span.
func (t tracer) Start(ctx context.Context, c router.Call) (context.Context, func(router.End)) {
	ctx, span := t.tracer.Start(ctx, "landlord "+string(c.Op), trace.WithSpanKind(trace.SpanKindClient))
	if !span.IsRecording() {
		return ctx, func(router.End) { span.End() }
	}
	span.SetAttributes(systemKey.String("postgresql"))
	if !c.Tenant.IsZero() {
		span.SetAttributes(tenantKey.String(c.Tenant.String()))
	}
	if c.Verb != "" {
		span.SetAttributes(operationKey.String(c.Verb))
	}
	return ctx, func(e router.End) {
		span.SetAttributes(retriesKey.Int(e.Retries))
		if e.Cluster != "" {
			span.SetAttributes(clusterKey.String(e.Cluster))
		}
		if e.Model != "" {
			span.SetAttributes(modelKey.String(string(e.Model)))
		}
		if e.Err != nil {
			outcome := router.Outcome(e.Err)
			span.SetStatus(codes.Error, outcome)
			span.SetAttributes(errorKey.String(errorType(outcome, e.Err)))
		}
		span.End()
	}
}

// errorType names err: as outcome does, or more exactly where that is only a class of PostgreSQL's errors.
func errorType(outcome string, err error) string {
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok && strings.HasPrefix(outcome, "sqlstate_") {
		return answer.Code
	}
	return outcome
}
