-- +goose Up
alter table orders add foreign key (tenant_id, parent_id) references orders (tenant_id, id);
