-- +goose Up
insert into tiny (name) values ((select table_name from information_schema.tables limit 1));
