-- +goose Up
create index i on orders (tenant_id, total);
