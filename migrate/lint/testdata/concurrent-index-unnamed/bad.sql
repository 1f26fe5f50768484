-- +goose NO TRANSACTION
-- +goose Up
create index concurrently on orders (tenant_id, total);
