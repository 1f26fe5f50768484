-- +goose Up
alter table tiny add column a text;
alter table orders drop constraint orders_of_customer;
