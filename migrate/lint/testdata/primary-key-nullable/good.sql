-- +goose Up
alter table orders add constraint orders_pk primary key using index orders_key;
