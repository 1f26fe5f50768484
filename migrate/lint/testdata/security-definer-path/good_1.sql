-- +goose Up
create function f() returns int language sql security definer set search_path from current as 'select 1';
