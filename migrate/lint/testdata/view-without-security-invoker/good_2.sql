-- +goose Up
create or replace view v (a) with (security_barrier, security_invoker) as select id from orders;
