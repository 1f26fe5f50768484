-- +goose Up
create view v with (security_invoker) as select id from orders;
drop view v;
