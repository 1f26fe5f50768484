-- +goose Up
create view v as select * from orders;
