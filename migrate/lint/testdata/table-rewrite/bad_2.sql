-- +goose Up
alter table orders set tablespace fast;
