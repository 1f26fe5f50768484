-- +goose Up
alter table orders set (fillfactor = 90);
