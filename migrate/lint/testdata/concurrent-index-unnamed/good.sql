-- +goose NO TRANSACTION
-- +goose Up
create index concurrently "i 1" on orders (tenant_id, total);
