-- +goose Up
create function f() returns int language sql set search_path from current as 'select 1';
