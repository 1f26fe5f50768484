-- +goose Up
create view v with (security_invoker = true) as select * from orders;
