-- +goose Up
alter table all in tablespace slow set tablespace fast;
