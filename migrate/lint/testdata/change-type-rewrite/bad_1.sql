-- +goose Up
alter table customers alter column points type bigint;
