-- +goose NO TRANSACTION
-- +goose Up
create index concurrently i on tiny (tenant_id, name);
