-- +goose Up
create table carts (tenant_id uuid, id bigint, customer_id bigint, currency text references currencies, primary key (tenant_id, id),
    foreign key (tenant_id, customer_id) references customers (tenant_id, id));
create index carts_by_customer on carts (tenant_id, customer_id);
