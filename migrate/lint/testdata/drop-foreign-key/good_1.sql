-- +goose Up
alter table orders drop constraint orders_of_customer;
