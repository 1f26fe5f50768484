-- +goose NO TRANSACTION
-- +goose Up
create unique index concurrently items_by_name on items (tenant_id, name);
-- +goose Down
drop index concurrently items_by_name;
