-- +goose Up
create or replace procedure f() security definer language sql as 'select 1';
