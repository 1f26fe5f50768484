-- Postgres builds it beside those who write, and that in no transaction.
-- +goose NO TRANSACTION
-- +goose Up
create index concurrently orders_by_currency on orders (tenant_id, currency);

-- +goose Down
drop index concurrently orders_by_currency;
