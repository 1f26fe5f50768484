-- +goose Up
create table carts (tenant_id uuid, id bigint, customer_id bigint, primary key (tenant_id, id),
    foreign key (tenant_id, customer_id) references customers (tenant_id, id));
