-- +goose Up
select * from orders for update;
