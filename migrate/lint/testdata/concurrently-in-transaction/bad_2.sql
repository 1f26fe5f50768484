-- +goose Up
drop index concurrently orders_by_customer;
