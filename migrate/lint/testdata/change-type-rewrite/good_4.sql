-- +goose Up
alter table customers alter column name type text using name::text;
