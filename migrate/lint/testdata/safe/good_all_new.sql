-- +goose Up
create table carts (
    tenant_id   uuid,
    id          bigint generated always as identity,
    token       uuid default gen_random_uuid(),
    customer_id bigint not null,
    primary key (tenant_id, id)
);
create index carts_by_customer on carts (tenant_id, customer_id);
create unique index carts_token on carts (tenant_id, token);
alter table carts add column total numeric not null;
alter table carts add constraint carts_total check (total > 0);
alter table carts add foreign key (tenant_id, customer_id) references customers (tenant_id, id);
alter table carts alter column token set not null;
alter table carts rename column total to sum;
alter table carts drop column token;
insert into carts (customer_id, sum) values (1, 2);
update carts set sum = 3;
truncate carts;
drop table carts;
