-- +goose Up
alter table orders rename constraint orders_total to orders_sum;
