-- +goose Up
begin;
create extension citext;
alter table orders add column token uuid not null default gen_random_uuid();
alter table orders alter column note set not null;
create index orders_by_note on orders (tenant_id, note);
update orders set total = 0;
drop table public.carts;
commit;

-- +goose Down
