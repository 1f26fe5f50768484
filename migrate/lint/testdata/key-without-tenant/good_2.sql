-- +goose NO TRANSACTION
-- +goose Up
create index concurrently i on orders using btree (tenant_id, lower(note));
