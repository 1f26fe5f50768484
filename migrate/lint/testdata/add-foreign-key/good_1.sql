-- +goose Up
alter table orders add constraint orders_of_orders foreign key (tenant_id, parent_id) references orders (tenant_id, id) not valid;
