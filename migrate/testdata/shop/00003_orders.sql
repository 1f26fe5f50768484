-- +goose Up
-- +goose ENVSUB ON
create table orders (
    tenant_id   uuid,
    id          bigint generated always as identity,
    customer_id bigint not null,
    state       order_state not null default '${LANDLORD_TEST_STATE:-new}',
    total       numeric(12, 2) not null check (total >= 0),
    primary key (tenant_id, id),
    foreign key (tenant_id, customer_id) references customers (tenant_id, id) deferrable initially deferred
);
-- +goose ENVSUB OFF
comment on table orders is 'costs $5; ${not} a variable here';
create unique index "Orders by;state" on orders (tenant_id, state, id);
create view open_orders as select * from orders where state = 'new';

-- +goose Down
drop view open_orders;
drop table orders;
