-- +goose Up
create materialized view v as select * from orders;
