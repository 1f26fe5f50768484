-- +goose Up
create or replace view v with (security_invoker = false) as select * from orders;
