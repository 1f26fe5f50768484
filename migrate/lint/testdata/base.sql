-- +goose Up
-- +goose StatementBegin
-- What the files beside this one change: every fixture is the second file of a set that begins with this one.
create table customers (
    tenant_id uuid,
    id        bigint generated always as identity,
    email     text not null,
    name      varchar(20),
    age       integer check (age > 0),
    score     numeric(10, 2),
    born      timestamptz(3),
    points    integer,
    primary key (tenant_id, id),
    unique (tenant_id, email)
);
create table orders (
    tenant_id   uuid,
    id          bigint generated always as identity,
    customer_id bigint not null,
    parent_id   bigint,
    total       numeric(12, 2),
    note        varchar(50),
    code        varchar(8) check (code <> ''),
    state       text,
    checked     text,
    primary key (tenant_id, id),
    constraint orders_checked check (checked is not null),
    constraint orders_of_customer foreign key (tenant_id, customer_id) references customers (tenant_id, id)
);
alter table orders add constraint orders_total check (total >= 0) not valid;
alter table orders add constraint orders_state check ((state is not null)) not valid;
create index orders_by_customer on orders (tenant_id, customer_id);
create index orders_by_parent on orders (tenant_id, parent_id);
create unique index orders_note_key on orders (tenant_id, note);
create unique index orders_key on orders (tenant_id, id);
create table tiny (tenant_id uuid, id bigint, name text, primary key (tenant_id, id));
create table currencies (code text primary key, digits smallint not null);
comment on table currencies is 'landlord: reference';
create type mood as enum ('sad', 'happy');
create table events (tenant_id uuid, id bigint, at timestamptz not null, primary key (tenant_id, id, at)) partition by range (at);
create table events_2030 partition of events for values from ('2030-01-01') to ('2031-01-01');
create table events_2031 (tenant_id uuid not null, id bigint not null, at timestamptz not null, check (at >= '2031-01-01' and at < '2032-01-01'));
create table events_2032 (tenant_id uuid not null, id bigint not null, at timestamptz not null);
create function shout(t text) returns text language sql return upper(t);
create view customer_names with (security_invoker = true) as select id, name from customers;
-- +goose StatementEnd
