-- +goose Up
alter view customer_names reset (security_invoker);
