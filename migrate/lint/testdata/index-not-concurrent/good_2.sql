-- +goose Up
create index on only events (tenant_id, at);
