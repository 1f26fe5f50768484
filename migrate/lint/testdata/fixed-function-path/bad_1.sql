-- +goose Up
create function f() returns int language sql security definer set search_path = public, pg_temp as 'select 1';
