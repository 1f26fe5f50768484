-- +goose Up
create unique index on orders (tenant_id, total) where total > 0;
