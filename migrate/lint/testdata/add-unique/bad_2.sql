-- +goose Up
alter table orders add constraint orders_again primary key (tenant_id, id);
