-- +goose Up
grant select on large object 5 to reporting;
