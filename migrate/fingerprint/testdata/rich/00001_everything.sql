-- +goose Up
-- One of each kind of object that a home can have.
create type mood as enum ('sad', 'fine');
create domain positive as int check (value > 0);
create type pair as (a int, b text);
create sequence numbers;

create table countries (
    code text primary key,
    name text
);
comment on table countries is 'landlord: reference';

create table customers (
    tenant_id uuid,
    id        bigint generated always as identity,
    email     text not null,
    feeling   mood not null default 'fine',
    size      positive,
    pair      pair,
    number    bigint default nextval('numbers'),
    shout     text generated always as (upper(email)) stored,
    primary key (tenant_id, id)
);
create table orders (
    tenant_id   uuid,
    id          bigint,
    customer_id bigint not null,
    note        text,
    total       numeric(10, 2) default 0,
    during      int4range,
    primary key (tenant_id, id),
    unique (tenant_id, note),
    constraint orders_customer foreign key (tenant_id, customer_id) references customers (tenant_id, id),
    constraint total_positive check (total >= 0)
);
create index orders_by_note on orders (tenant_id, lower(note)) where note <> 'customers.x';
create statistics orders_statistics on customer_id, note from orders;

create table events (tenant_id uuid, at timestamptz not null, what text) partition by range (at);
create table events_2026 partition of events for values from ('2026-01-01') to ('2027-01-01');
create index on events (tenant_id, at);

-- +goose StatementBegin
create function touch() returns trigger language plpgsql as $$
begin
    new.note := coalesce(new.note, 'orders.id');
    return new;
end $$;
create procedure clean(p_before bigint) language plpgsql as $$
begin
    delete from orders where orders.id < p_before;
end $$;
-- +goose StatementEnd
create trigger orders_touch before insert on orders for each row when (new.note is null) execute function touch();
create function feeling_of(p_customer customers) returns mood language sql stable begin atomic select p_customer.feeling; end;
create function sum_of(p_customer bigint) returns numeric language sql stable
    as 'select sum(total) from orders where customer_id = p_customer';
create aggregate product(numeric) (sfunc = numeric_mul, stype = numeric, initcond = '1');

create view open_orders as
    select orders.id, customers.email, customers.feeling
      from orders join customers on customers.id = orders.customer_id where customers.feeling > 'sad' and orders.total > 0;
create rule open_orders_delete as on delete to open_orders do instead nothing;
create materialized view order_counts as select customer_id, count(*) as orders from orders group by customer_id;
create unique index order_counts_key on order_counts (customer_id);
create policy of_customers on orders as restrictive for delete to public
    using (exists (select from customers where customers.id = orders.customer_id));

-- +goose Down
select 1;
