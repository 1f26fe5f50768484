-- +goose Up
create function f() returns int language sql set search_path to 'app' as 'select 1';
