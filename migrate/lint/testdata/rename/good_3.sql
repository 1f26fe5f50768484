-- +goose Up
alter index orders_by_customer rename to orders_customer;
