-- +goose Up
grant select on orders to reporting;
