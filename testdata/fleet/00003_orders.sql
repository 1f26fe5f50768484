-- +goose Up
-- Foreign keys carry the tenant too: a reference can only lead to a row of the same tenant.
create table orders (
    tenant_id   uuid,
    id          bigint generated always as identity,
    customer_id bigint not null,
    currency    text not null references currencies (code),
    status      text not null default 'open' check (status in ('open', 'paid', 'shipped', 'cancelled')),
    placed_at   timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, customer_id) references customers (tenant_id, id)
);
create index orders_by_customer on orders (tenant_id, customer_id, placed_at);

create table order_lines (
    tenant_id  uuid,
    id         bigint generated always as identity,
    order_id   bigint not null,
    position   int not null check (position > 0),
    product    text not null,
    quantity   int not null check (quantity > 0),
    unit_price numeric(12, 2) not null check (unit_price >= 0),
    primary key (tenant_id, id),
    unique (tenant_id, order_id, position),
    foreign key (tenant_id, order_id) references orders (tenant_id, id) on delete cascade
);

-- +goose Down
drop table order_lines;
drop table orders;
